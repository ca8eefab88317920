/** A labelled list to choose from. */
import { useId } from 'react';

export interface Option {
  value: string;
  label: string;
}

interface ChoiceProps {
  label: string;
  name: string;
  value: string;
  options: readonly Option[];
  disabled: boolean;
  /** Said beside the label where an answer is asked for. */
  needed?: string | undefined;
  onChoose: (value: string) => void;
}

export function Choice({ label, name, value, options, disabled, needed, onChoose }: ChoiceProps) {
  const id = useId();
  return (
    <div className="metia-choice">
      <label htmlFor={id}>
        {label}
        {needed && <span className="metia-needed">{needed}</span>}
      </label>
      <select
        id={id}
        data-cy={`metia-${name}`}
        value={value}
        disabled={disabled}
        onChange={(event) => onChoose(event.target.value)}
      >
        {options.map((option) => (
          <option key={option.value} value={option.value}>
            {option.label}
          </option>
        ))}
      </select>
    </div>
  );
}

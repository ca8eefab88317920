/** The model a press would run, with a warning where it is only for show. */
import { defaultModel } from '../state/state';
import type { PartProps } from './context';

export function ModelLine({ state, words }: PartProps) {
  const model = defaultModel(state);
  if (!model) return null;
  return (
    <div className="metia-field" data-cy="metia-model">
      <p className="metia-label">
        {words.t('model.title')}
        <span className="metia-hint">
          {model.name} · {words.t('model.version', { version: model.version })}
        </span>
      </p>
      {model.demonstration && (
        <p className="metia-warning" data-cy="metia-demonstration">
          {words.t('model.demonstration')}
        </p>
      )}
    </div>
  );
}

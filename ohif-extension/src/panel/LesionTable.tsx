/** The lesions of a result; a row takes the viewer to its slice. */
import type { KeyboardEvent } from 'react';
import type { Lesion, Result } from '../api/types';
import { millilitres, millimetres, percent } from '../format';
import type { PartProps } from './context';

/** Arrow keys move between the rows; Enter and Space work by themselves on buttons. */
function moveFocus(event: KeyboardEvent<HTMLTableSectionElement>): void {
  const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
  if (step === 0) return;
  const buttons = [...event.currentTarget.querySelectorAll('button')];
  const next = buttons[buttons.findIndex((button) => button === document.activeElement) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

export function LesionTable({ state, controller, words, result }: PartProps & { result: Result }) {
  return (
    <table className="metia-lesions" data-cy="metia-lesions" aria-label={words.t('lesion.list')}>
      <thead>
        <tr>
          <th scope="col">{words.t('lesion.column.lesion')}</th>
          <th scope="col" title={words.t('lesion.column.size.long')}>
            {words.t('lesion.column.size')}
          </th>
          <th scope="col">{words.t('lesion.column.volume')}</th>
          <th scope="col" title={words.t('lesion.column.confidence.long')}>
            {words.t('lesion.column.confidence')}
          </th>
        </tr>
      </thead>
      <tbody onKeyDown={moveFocus}>
        {result.lesions.map((lesion) => (
          <Row
            key={lesion.id}
            lesion={lesion}
            language={words.language}
            label={words.t('lesion.go', { name: lesion.name })}
            caution={lesion.warnings.includes('touches-border') ? words.t('lesion.cut') : null}
            selected={lesion.id === state.selectedLesionId}
            onSelect={() => void controller.select(lesion)}
          />
        ))}
      </tbody>
    </table>
  );
}

interface RowProps {
  lesion: Lesion;
  language: string;
  label: string;
  caution: string | null;
  selected: boolean;
  onSelect: () => void;
}

function Row({ lesion, language, label, caution, selected, onSelect }: RowProps) {
  return (
    <tr
      className={selected ? 'metia-selected' : undefined}
      data-cy={`metia-lesion-${lesion.segment_number}`}
      onClick={onSelect}
    >
      <th scope="row">
        <button
          type="button"
          aria-label={label}
          aria-pressed={selected}
          onClick={(event) => {
            event.stopPropagation();
            onSelect();
          }}
        >
          <span className="metia-swatch" style={{ background: `rgb(${lesion.colour.join(' ')})` }} />
          {lesion.name}
          {caution && (
            <span className="metia-caution" role="img" aria-label={caution} title={caution}>
              ⚠
            </span>
          )}
        </button>
      </th>
      <td>
        {millimetres(lesion.longest_diameter_mm, language)} × {millimetres(lesion.perpendicular_diameter_mm, language)}
      </td>
      <td>{millilitres(lesion.volume_ml, language)}</td>
      <td>{percent(lesion.probability, language)}</td>
    </tr>
  );
}

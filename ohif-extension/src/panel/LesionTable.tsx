/**
 * The lesions of this visit, beside those of the visit before where there is one.
 *
 * A row takes the viewer to its slice and opens what can be decided about the lesion.
 */
import { Fragment, useState, type KeyboardEvent } from 'react';
import type { Result } from '../api/types';
import { millilitres, millimetres, percent } from '../format';
import { comparisonRows, courseIsOf, direction, previousVisit, type Row, type Status } from '../state/comparison';
import { canDecide, type PartProps } from './context';
import { LesionDetail } from './LesionDetail';

/** Arrow keys move between the rows; Enter and Space work by themselves on buttons. */
function moveFocus(event: KeyboardEvent<HTMLTableSectionElement>): void {
  const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
  const rows = [...event.currentTarget.querySelectorAll<HTMLElement>('[data-row]')];
  const index = rows.findIndex((button) => button === document.activeElement);
  const next = index < 0 || step === 0 ? undefined : rows[index + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

export function LesionTable(part: PartProps & { result: Result }) {
  const { state, controller, words, terms, result } = part;
  const [open, setOpen] = useState<string | null>(null);
  const rows = comparisonRows(state.course, result);
  const previous = courseIsOf(state.course, result) ? previousVisit(state.course, result.study_uid) : null;
  const choose = (row: Row) => {
    setOpen(open === row.key ? null : row.key);
    void controller.visits.select(row);
  };
  return (
    <table className="metia-lesions" data-cy="metia-lesions" aria-label={words.t('lesion.list')}>
      <thead>
        <tr>
          <th scope="col" title={words.t('lesion.column.target')}>
            <span aria-label={words.t('lesion.column.target')}>◎</span>
          </th>
          <th scope="col">{words.t('lesion.column.lesion')}</th>
          {previous ? (
            <>
              <th scope="col">{words.t('lesion.column.now')}</th>
              <th scope="col" title={words.t('lesion.column.before.long', { date: terms.day(previous.date) })}>
                {words.t('lesion.column.before')}
              </th>
              <th scope="col">{words.t('lesion.column.change')}</th>
            </>
          ) : (
            <>
              <th scope="col" title={words.t('lesion.column.size.long')}>{words.t('lesion.column.size')}</th>
              <th scope="col">{words.t('lesion.column.volume')}</th>
              <th scope="col" title={words.t('lesion.column.confidence.long')}>{words.t('lesion.column.confidence')}</th>
            </>
          )}
        </tr>
      </thead>
      <tbody onKeyDown={moveFocus}>
        {rows.map((row) => (
          <Fragment key={row.key}>
            <LesionRow {...part} row={row} compared={previous !== null} open={open === row.key} onChoose={() => choose(row)} />
            {open === row.key && (
              <tr className="metia-detail">
                <td colSpan={5}>
                  <LesionDetail {...part} row={row} />
                </td>
              </tr>
            )}
          </Fragment>
        ))}
      </tbody>
    </table>
  );
}

interface RowProps extends PartProps {
  row: Row;
  compared: boolean;
  open: boolean;
  onChoose: () => void;
}

function LesionRow(props: RowProps) {
  const { row, state, words, compared, open, onChoose } = props;
  const { lesion } = row;
  const selected = lesion !== null && lesion.id === state.selectedLesionId;
  const caution = lesion?.warnings.includes('touches-border') ? words.t('lesion.cut') : null;
  const classes = [selected && 'metia-selected', row.status.includes('rejected') && 'metia-rejected'].filter(Boolean);
  return (
    <tr
      className={classes.join(' ') || undefined}
      data-cy={lesion ? `metia-lesion-${lesion.segment_number}` : `metia-gone-${row.name}`}
      data-status={row.status.join(' ')}
      onClick={onChoose}
    >
      <td className="metia-target">
        <Target {...props} />
      </td>
      <th scope="row">
        <button
          type="button"
          data-row
          aria-label={words.t(lesion ? 'lesion.go' : 'lesion.where', { name: row.name })}
          aria-pressed={selected}
          aria-expanded={open}
          onClick={(event) => {
            event.stopPropagation();
            onChoose();
          }}
        >
          <span className={lesion ? 'metia-swatch' : 'metia-swatch metia-swatch-gone'} style={{ '--swatch': `rgb(${row.colour.join(' ')})` } as object} />
          <span className="metia-name" title={lesion?.name}>
            {row.name}
            {!compared && lesion && lesion.name !== row.name && <span className="metia-alias"> {lesion.name}</span>}
          </span>
          {caution && (
            <span className="metia-caution" role="img" aria-label={caution} title={caution}>
              ⚠
            </span>
          )}
          {row.status.map((status) => (
            <Badge key={status} status={status} {...props} />
          ))}
          {lesion?.review === 'accepted' && (
            <span className="metia-accepted" role="img" aria-label={words.t('lesion.status.accepted')} title={words.t('lesion.status.accepted')}>
              ✓
            </span>
          )}
        </button>
      </th>
      {compared ? <Compared {...props} /> : <Single {...props} />}
    </tr>
  );
}

function Badge({ status, words }: RowProps & { status: Status }) {
  const title = status === 'pending' ? words.t('lesion.status.pending.long') : undefined;
  return (
    <span className={`metia-status metia-status-${status}`} title={title}>
      {words.t(`lesion.status.${status}`)}
    </span>
  );
}

function Target({ row, state, controller, words }: RowProps) {
  const { track } = row;
  if (!track) return null;
  const target = track.role === 'target';
  const why = target ? (track.role_by === 'reader' ? 'lesion.target.reader' : 'lesion.target.rule') : 'lesion.nontarget';
  return (
    <input
      type="checkbox"
      data-cy={`metia-target-${row.name}`}
      className={track.role_by === 'reader' ? 'metia-by-reader' : undefined}
      aria-label={words.t('lesion.target', { name: row.name })}
      title={[words.t(why), ...track.role_reasons].join('\n')}
      checked={target}
      disabled={!canDecide(state)}
      onClick={(event) => event.stopPropagation()}
      onChange={() => void controller.reading.changeTrack(track.id, { role: target ? 'non_target' : 'target' })}
    />
  );
}

function Single({ row, words }: RowProps) {
  const { lesion } = row;
  if (!lesion) return <td colSpan={3} />;
  const { language } = words;
  return (
    <>
      <td>
        {millimetres(lesion.longest_diameter_mm, language)} × {millimetres(lesion.perpendicular_diameter_mm, language)}
      </td>
      <td>{millilitres(lesion.volume_ml, language)}</td>
      <td>{lesion.probability === null ? '–' : percent(lesion.probability, language)}</td>
    </>
  );
}

const MARKS = { larger: '▲', smaller: '▼', equal: '=' } as const;

function Compared({ row, words, terms }: RowProps) {
  const now = row.lesion?.longest_diameter_mm ?? row.now?.longest_diameter_mm ?? null;
  const before = row.before?.longest_diameter_mm ?? null;
  const change = row.change_mm;
  const way = change === null ? null : direction(change);
  return (
    <>
      <td>{now === null ? '–' : millimetres(now, words.language)}</td>
      <td>{before === null ? '–' : millimetres(before, words.language)}</td>
      <td
        className={way ? `metia-change metia-${way}` : undefined}
        aria-label={way && change !== null ? words.t(`lesion.${way}`, { change: millimetres(Math.abs(change), words.language) }) : undefined}
      >
        {way && change !== null && (
          <>
            <span aria-hidden="true">{MARKS[way]}</span> {terms.change(change)}
          </>
        )}
      </td>
    </>
  );
}

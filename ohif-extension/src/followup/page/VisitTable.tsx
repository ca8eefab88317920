/** Every visit and every lesion in numbers; a cell opens the slice. */
import { memo } from 'react';
import { categoryClass, trackColour } from '../charts/look';
import { notes, sizes, stateText } from '../charts/Tip';
import type { Places } from '../places';
import { observationAt, type Course, type CourseVisit, type Track } from '../shape/course';
import type { PageWords } from '../words';
import { visitAddress } from './PatientView';

interface TableProps {
  course: Course;
  chosen: string;
  choose: (studyUid: string) => void;
  highlight: string | null;
  setHighlight: (track: string | null) => void;
  places: Places;
  words: PageWords;
}

export function VisitTable({ course, chosen, choose, highlight, setHighlight, places, words }: TableProps) {
  return (
    <section className="mfu-card mfu-all" aria-label={words.t('table.title')}>
      <h2>{words.t('table.title')}</h2>
      <div className="mfu-table-box" tabIndex={0} role="region" aria-label={words.t('table.title')}>
        <table className="mfu-table" data-cy="mfu-table" onPointerLeave={() => setHighlight(null)}>
          <thead>
            <tr>
              <th scope="col" className="mfu-first">
                {words.t('table.visit')}
              </th>
              <th scope="col">{words.t('table.category')}</th>
              <th scope="col">{words.t('table.sum')}</th>
              {course.tracks.map((track) => (
                <LesionHead key={track.id} track={track} on={highlight === track.id} words={words} />
              ))}
            </tr>
          </thead>
          <tbody>
            {course.visits.map((visit) => (
              <VisitRow key={visit.study_uid} course={course} visit={visit} chosen={visit.study_uid === chosen} choose={choose} setHighlight={setHighlight} places={places} words={words} />
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function LesionHead({ track, on, words }: { track: Track; on: boolean; words: PageWords }) {
  const role = words.said('role', track.role ?? 'none');
  const by = track.role_by ? ` (${words.said('role.by', track.role_by)})` : '';
  return (
    <th scope="col" className={on ? 'mfu-on' : undefined} title={role + by}>
      <span className="mfu-swatch" style={{ background: trackColour(track) }} />
      {track.label}
      {track.role && <span className={`mfu-role mfu-role-${track.role}`}>{words.t(`table.mark.${track.role}`)}</span>}
    </th>
  );
}

interface RowProps extends Omit<TableProps, 'highlight' | 'chosen'> {
  visit: CourseVisit;
  chosen: boolean;
}

/** The rows do not change as the pointer goes over them. */
const VisitRow = memo(function VisitRow({ course, visit, chosen, choose, setHighlight, places, words }: RowProps) {
  const { assessment } = visit;
  const day = words.day(visit.date);
  return (
    <tr className={chosen ? 'mfu-chosen' : undefined} data-cy="mfu-visit">
      <th scope="row" className="mfu-first">
        <a {...places.link(visitAddress(course, visit.study_uid, null))} aria-label={words.t('table.open.visit', { date: day })}>
          {day}
        </a>
        <span className="mfu-small">{visit.description}</span>
        <span className="mfu-small">{words.said('result', visit.result_state)}</span>
        {visit.left_out && <span className="mfu-mark">{words.reason(visit.left_out)}</span>}
        {visit.unlinked.length > 0 && <span className="mfu-mark">{words.count('table.unlinked', visit.unlinked.length)}</span>}
        {visit.registration?.accepted === false && (
          <span className="mfu-warn" role="img" aria-label={words.t('table.registration')} title={words.t('table.registration')}>
            ⚠
          </span>
        )}
      </th>
      <td>
        <button type="button" className={categoryClass(assessment?.category)} aria-pressed={chosen} title={words.said('category', assessment?.category) || words.t('category.unknown')} onClick={() => choose(visit.study_uid)}>
          {words.said('short', assessment?.category) || '–'}
          {assessment?.confirmed === false && '?'}
        </button>
        {visit.signed && <span className="mfu-small">{visit.signed.stale ? '⚠' : '✓'} {visit.signed.by}</span>}
      </td>
      <td>
        {visit.sum_complete || visit.sum_mm === null ? (
          <strong>{visit.sum_mm === null ? '–' : words.size(visit.sum_mm, 'diameter')}</strong>
        ) : (
          <span className="mfu-none" title={words.t('table.incomplete')}>
            ({words.size(visit.sum_mm, 'diameter')})
          </span>
        )}
        {visit.is_nadir && <span className="mfu-tag">{words.t('chart.nadir')}</span>}
        <span className="mfu-small">{words.size(visit.sum_volume_ml, 'volume')}</span>
        {visit.change_from_baseline_percent !== null && (
          <span className="mfu-small" title={words.t('table.baseline')}>
            {words.percent(visit.change_from_baseline_percent)}
            {visit.change_from_nadir_percent !== null && ` (${words.t('table.nadir')} ${words.percent(visit.change_from_nadir_percent)})`}
          </span>
        )}
      </td>
      {course.tracks.map((track) => (
        <Cell key={track.id} course={course} visit={visit} track={track} setHighlight={setHighlight} places={places} words={words} />
      ))}
    </tr>
  );
});

interface CellProps {
  course: Course;
  visit: CourseVisit;
  track: Track;
  setHighlight: (track: string | null) => void;
  places: Places;
  words: PageWords;
}

function Cell({ course, visit, track, setHighlight, places, words }: CellProps) {
  const seen = observationAt(track, visit.study_uid);
  const size = sizes(seen, words);
  const enter = () => setHighlight(track.id);
  if (!seen || !size) {
    return (
      <td className="mfu-none" onPointerEnter={enter}>
        {stateText(track, seen, words)}
      </td>
    );
  }
  const [plane, volume] = size.split(' · ');
  const pending = seen.link?.state === 'pending';
  return (
    <td className={pending ? 'mfu-cell mfu-waits' : 'mfu-cell'} onPointerEnter={enter}>
      <a {...places.link(visitAddress(course, visit.study_uid, track.id))} aria-label={`${words.t('table.open', { lesion: track.label, date: words.day(visit.date) })}: ${size}`} data-cy={`mfu-cell-${track.label}`}>
        <span>{plane}</span>
        <span className="mfu-small">{volume}</span>
        {seen.change_percent !== null && <span className="mfu-small">{words.percent(seen.change_percent)}</span>}
        {notes(course, track, seen, words).map((note) => (
          <span key={note} className="mfu-mark">
            {note}
          </span>
        ))}
      </a>
    </td>
  );
}

/** What a point says: one lesion, or the sum, at one visit. */
import { changeOf, observationAt, type Course, type CourseObservation, type Metric, type Track } from '../shape/course';
import type { PageWords } from '../words';

export interface TipProps {
  course: Course;
  series: string;
  studyUid: string;
  metric: Metric;
  words: PageWords;
}

export function Tip(props: TipProps) {
  const { course, series, studyUid, words } = props;
  const visit = course.visits.find((it) => it.study_uid === studyUid);
  const track = course.tracks.find((it) => it.id === series);
  if (!visit) return null;
  return (
    <>
      <p className="mfu-tip-title">
        {track ? track.label : words.t('chart.sum')}
        <span>{words.day(visit.date)}</span>
      </p>
      {track ? <LesionTip {...props} track={track} /> : <SumTip {...props} />}
      <p className="mfu-tip-hint">{words.t('tip.open')}</p>
    </>
  );
}

function SumTip({ course, studyUid, metric, words }: TipProps) {
  const visit = course.visits.find((it) => it.study_uid === studyUid)!;
  const value = metric === 'diameter' ? visit.sum_mm : visit.sum_volume_ml;
  return (
    <>
      <p className="mfu-tip-value">{value === null ? words.t('state.no_value') : words.size(value, metric)}</p>
      {metric === 'diameter' && visit.change_from_baseline_percent !== null && (
        <p>{words.t('tip.baseline', { change: words.percent(visit.change_from_baseline_percent) })}</p>
      )}
      {metric === 'diameter' && visit.change_from_nadir_percent !== null && (
        <p>{words.t('tip.nadir', { change: words.percent(visit.change_from_nadir_percent) })}</p>
      )}
      {visit.assessment && (
        <p>
          <strong>{words.said('category', visit.assessment.category)}</strong>
        </p>
      )}
    </>
  );
}

function LesionTip({ course, track, studyUid, metric, words }: TipProps & { track: Track }) {
  const seen = observationAt(track, studyUid);
  const percent = changeOf(course, track, studyUid, metric);
  return (
    <>
      <p className="mfu-tip-value">{sizes(seen, words) ?? stateText(track, seen, words)}</p>
      {seen?.change_mm != null && <p>{words.t('tip.previous', { change: words.change(seen.change_mm) })}</p>}
      {percent !== null && <p>{words.t('tip.baseline', { change: words.percent(percent) })}</p>}
      {notes(course, track, seen, words).map((note) => (
        <p key={note}>{note}</p>
      ))}
    </>
  );
}

/** `12.3 × 8.1 mm · 0.45 ml`, or null where nothing was measured. */
export function sizes(seen: CourseObservation | null, words: PageWords): string | null {
  if (seen?.longest_diameter_mm == null || seen.state === 'absent') return null;
  const across = seen.perpendicular_diameter_mm;
  const long = words.number(seen.longest_diameter_mm, 1);
  const plane = across === null ? `${long} mm` : `${long} × ${words.number(across, 1)} mm`;
  return seen.volume_ml === null ? plane : `${plane} · ${words.size(seen.volume_ml, 'volume')}`;
}

/** Whether the lesion had not been seen yet: absent is then "not there yet", not "gone". */
function unseenBefore(track: Track, seen: CourseObservation): boolean {
  const index = track.observations.indexOf(seen);
  return track.observations.slice(0, index).every((it) => it.lesion_id === null);
}

export function stateText(track: Track, seen: CourseObservation | null, words: PageWords): string {
  if (!seen) return words.t('state.not_assessed');
  if (seen.state === 'absent' && unseenBefore(track, seen)) return words.t('state.absent.before');
  const why = words.said('why', seen.reason);
  return words.said('state', seen.state) + (why && ` (${why})`);
}

/** What else a reader has to know of the lesion at this visit. */
export function notes(course: Course, track: Track, seen: CourseObservation | null, words: PageWords): string[] {
  const found: string[] = [];
  if (!seen) return found;
  if (sizes(seen, words) && seen.state !== 'measured') found.push(stateText(track, seen, words));
  const relation = seen.link?.relation;
  if (seen.lesion_id && (relation === 'new' || relation === 'reappeared')) found.push(words.said('state', relation));
  if (seen.link?.state === 'pending') found.push(words.t('state.pending'));
  if (seen.review === 'rejected') found.push(words.t('state.rejected'));
  const parent = course.tracks.find((it) => it.id === track.split_from);
  if (parent) found.push(words.t('state.split_from', { lesion: parent.label }));
  if (seen.reading?.radionecrosis_suspected) found.push(words.t('state.radionecrosis'));
  return found;
}

/**
 * Change against baseline: per lesion over time (spider) and the best of each (waterfall).
 *
 * Pure. Per cent, as the values of lines. A lesion that was not there at baseline has no
 * such change; it is named instead of drawn.
 */
import { changeOf, datedVisits, observationAt, periodStarts, sizeOf, sumChangeOf, sumOf } from './course';
import type { Course, DatedVisit, Metric, Track } from './course';
import { lesionLine, lineOf, type LesionLine, type Line, type LinePoint, type Step } from './timeline';

export interface Bar {
  /** Null: the sum of the targets. */
  track: Track | null;
  best: LinePoint;
  latest: LinePoint;
}

/** The visits since the comparison last started anew, that start first. */
function lastPeriod(course: Course): DatedVisit[] {
  const visits = datedVisits(course);
  const starts = periodStarts(course);
  const start = visits.findLastIndex(({ visit }) => starts.has(visit.study_uid));
  return start < 0 ? [] : visits.slice(start);
}

/** One line a lesion, beginning with 0 % at baseline; broken where a visit has no value. */
export function spiderLines(course: Course, metric: Metric): LesionLine[] {
  const visits = lastPeriod(course);
  const baseline = visits[0]?.visit.study_uid;
  if (!baseline) return [];
  return course.tracks.flatMap((track) => {
    const atBaseline = sizeOf(observationAt(track, baseline), metric);
    if (atBaseline === null || atBaseline <= 0) return [];
    const line = lesionLine(visits, track, metric);
    const points = line.points.flatMap((point): LinePoint[] => {
      const value = point.studyUid === baseline ? 0 : changeOf(course, track, point.studyUid, metric);
      return value === null ? [] : [{ ...point, value }];
    });
    const steps: Step[] = [...points, ...line.gaps].sort((a, b) => a.time - b.time);
    return [{ track, ...lineOf(steps) }];
  });
}

/** Lesions without a size at baseline, which no change can be given for. */
export function withoutBaseline(course: Course, metric: Metric): Track[] {
  const drawn = new Set(spiderLines(course, metric).map((line) => line.track.id));
  return course.tracks.filter((track) => !drawn.has(track.id));
}

function bar(track: Track | null, points: LinePoint[]): Bar[] {
  const after = points.slice(1);
  const latest = after.at(-1);
  if (!latest) return [];
  return [{ track, best: after.reduce((best, point) => (point.value < best.value ? point : best)), latest }];
}

/** The best change of each lesion, worst first as in every waterfall; the sum stands apart, first. */
export function waterfall(course: Course, metric: Metric): Bar[] {
  const lesions = spiderLines(course, metric)
    .flatMap((line) => bar(line.track, line.points))
    .sort((a, b) => b.best.value - a.best.value || (a.track?.label ?? '').localeCompare(b.track?.label ?? ''));
  return [...bar(null, sumChanges(course, metric).points), ...lesions];
}

export function sumChanges(course: Course, metric: Metric): Line {
  const visits = lastPeriod(course);
  const first = visits[0];
  if (!first || !sumOf(first.visit, metric)) return lineOf([]);
  return lineOf(
    visits.map(({ visit, time }, n): Step => {
      const value = n === 0 ? 0 : sumChangeOf(visit, metric);
      const at = { studyUid: visit.study_uid, time };
      return value === null ? { ...at, why: 'no_value' } : { ...at, value, assumed: false, pending: false };
    }),
  );
}

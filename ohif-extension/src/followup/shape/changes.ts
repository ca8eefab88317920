/**
 * Change against baseline: per lesion over time (spider) and the best of each (waterfall).
 *
 * Pure. Per cent. A lesion that was not there at baseline has no such change; it is named
 * instead of drawn.
 */
import { changeOf, datedVisits, observationAt, periodStarts, sizeOf, sumChangeOf, sumOf } from './course';
import type { Course, Metric, Track } from './course';

export interface ChangePoint {
  studyUid: string;
  time: number;
  percent: number;
}

export interface ChangeLine {
  track: Track;
  points: ChangePoint[];
}

export interface Bar {
  /** Null: the sum of the targets. */
  track: Track | null;
  best: ChangePoint;
  latest: ChangePoint;
}

interface LastPeriod {
  baseline: string;
  visits: ReturnType<typeof datedVisits>;
}

/** The visits since the comparison last started anew. */
function lastPeriod(course: Course): LastPeriod | null {
  const visits = datedVisits(course);
  const starts = periodStarts(course);
  const start = visits.findLastIndex(({ visit }) => starts.has(visit.study_uid));
  const baseline = visits[start];
  return baseline ? { baseline: baseline.visit.study_uid, visits: visits.slice(start) } : null;
}

/** One line a lesion, beginning with 0 % at baseline. */
export function spiderLines(course: Course, metric: Metric): ChangeLine[] {
  const period = lastPeriod(course);
  if (!period) return [];
  return course.tracks.flatMap((track) => {
    const atBaseline = sizeOf(observationAt(track, period.baseline), metric);
    if (atBaseline === null || atBaseline <= 0) return [];
    const points = period.visits.flatMap(({ visit, time }): ChangePoint[] => {
      const isBaseline = visit.study_uid === period.baseline;
      const percent = isBaseline ? 0 : changeOf(course, track, visit.study_uid, metric);
      return percent === null ? [] : [{ studyUid: visit.study_uid, time, percent }];
    });
    return [{ track, points }];
  });
}

/** Lesions without a size at baseline, which no change can be given for. */
export function withoutBaseline(course: Course, metric: Metric): Track[] {
  const drawn = new Set(spiderLines(course, metric).map((line) => line.track.id));
  return course.tracks.filter((track) => !drawn.has(track.id));
}

function bar(track: Track | null, points: ChangePoint[]): Bar[] {
  const after = points.slice(1);
  const latest = after.at(-1);
  if (!latest) return [];
  return [{ track, best: after.reduce((best, point) => (point.percent < best.percent ? point : best)), latest }];
}

/** The best change of each lesion, worst first as in every waterfall; the sum stands apart, first. */
export function waterfall(course: Course, metric: Metric): Bar[] {
  const lesions = spiderLines(course, metric)
    .flatMap((line) => bar(line.track, line.points))
    .sort((a, b) => b.best.percent - a.best.percent || (a.track?.label ?? '').localeCompare(b.track?.label ?? ''));
  return [...bar(null, sumChanges(course, metric)), ...lesions];
}

export function sumChanges(course: Course, metric: Metric): ChangePoint[] {
  const period = lastPeriod(course);
  const first = period?.visits[0];
  if (!period || !first) return [];
  const atBaseline = sumOf(first.visit, metric) ? 0 : null;
  return period.visits.flatMap(({ visit, time }, n): ChangePoint[] => {
    const percent = n === 0 ? atBaseline : sumChangeOf(visit, metric);
    return percent === null ? [] : [{ studyUid: visit.study_uid, time, percent }];
  });
}

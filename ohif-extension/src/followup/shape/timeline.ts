/**
 * The lines of the timeline: sums, lesions, gaps and the limits of response.
 *
 * Pure. A line is broken where a visit has no value; the break is bridged by a segment of
 * its own, so that what was not assessed is never drawn as if it had been.
 */
import { datedVisits, observationAt, periodStarts, sizeOf, sumOf } from './course';
import type { Course, CourseObservation, DatedVisit, Metric, Track } from './course';

export interface LinePoint {
  studyUid: string;
  time: number;
  value: number;
  /** Stands for a value nobody measured (too small, or gone). */
  assumed: boolean;
  pending: boolean;
}

export type GapReason = 'not_assessed' | 'locally_treated' | 'merged' | 'split' | 'no_value';

export interface Gap {
  studyUid: string;
  time: number;
  why: GapReason;
}

export interface Line {
  points: LinePoint[];
  gaps: Gap[];
  /** Runs of visits without a gap between them. */
  runs: LinePoint[][];
  /** From the end of a run to the beginning of the next. */
  bridges: [LinePoint, LinePoint][];
}

export interface LesionLine extends Line {
  track: Track;
}

export type Step = LinePoint | Gap;

export function lineOf(steps: Step[]): Line {
  const runs: LinePoint[][] = [];
  const gaps: Gap[] = [];
  let open = false;
  for (const step of steps) {
    if ('why' in step) {
      gaps.push(step);
      open = false;
    } else if (open) {
      runs.at(-1)?.push(step);
    } else {
      runs.push([step]);
      open = true;
    }
  }
  const bridges = runs.slice(1).map((run, n): [LinePoint, LinePoint] => [runs[n]!.at(-1)!, run[0]!]);
  return { points: runs.flat(), gaps, runs, bridges };
}

/** Ended by merging or splitting: the rest of the story is told by another lesion. */
const ENDINGS: ReadonlySet<string> = new Set(['merged', 'split']);

export function lesionLine(visits: DatedVisit[], track: Track, metric: Metric): LesionLine {
  const steps: Step[] = [];
  for (const { visit, time } of visits) {
    const observation = observationAt(track, visit.study_uid);
    const value = sizeOf(observation, metric);
    const at = { studyUid: visit.study_uid, time };
    if (value !== null && observation) {
      steps.push({ ...at, value, assumed: observation.state !== 'measured', pending: observation.link?.state === 'pending' });
    } else if (steps.length > 0 || observation) {
      steps.push({ ...at, why: gapReason(observation, value) });
    }
  }
  const line = lineOf(withoutForeword(steps));
  return { track, ...line };
}

function gapReason(observation: CourseObservation | null, value: number | null): GapReason {
  const state = observation?.state ?? 'not_assessed';
  if (state === 'locally_treated' || ENDINGS.has(state)) return state as GapReason;
  return value === null && (state === 'measured' || state === 'too_small') ? 'no_value' : 'not_assessed';
}

/** A lesion begins where it is first seen: that it was absent before is no part of its line. */
function withoutForeword(steps: Step[]): Step[] {
  const first = steps.findIndex((step) => !('why' in step) && step.value > 0);
  if (first < 0) return [];
  const before = steps[first - 1];
  // The last look that did not find it shows from where it grew.
  const start = before && !('why' in before) ? first - 1 : first;
  return steps.slice(start);
}

export function lesionLines(course: Course, metric: Metric): LesionLine[] {
  const visits = datedVisits(course);
  return course.tracks.map((track) => lesionLine(visits, track, metric)).filter((line) => line.points.length > 0);
}

/** The sum of the targets; visits before the baseline have none. */
export function sumLine(course: Course, metric: Metric): Line {
  return lineOf(
    datedVisits(course).flatMap(({ visit, time }): Step[] => {
      const value = sumOf(visit, metric);
      const at = { studyUid: visit.study_uid, time };
      if (value !== null) return [{ ...at, value, assumed: false, pending: false }];
      return visit.assessment && visit.assessment.category !== 'NOT_APPLICABLE' ? [{ ...at, why: 'no_value' }] : [];
    }),
  );
}

export interface LimitStep {
  from: number;
  to: number;
  nadir: number;
  progression: number;
}

export interface Limits {
  studyUid: string;
  from: number;
  to: number;
  baseline: number;
  response: number;
  /** How the nadir went down: what a visit within is compared with. */
  steps: LimitStep[];
}

interface Rule {
  response: number;
  progression: number;
}

/** Diameters: -30 % and +20 %. Volumes: -65 % (Oft 2021), and +72.8 %, a sphere's +20 % of diameter. */
export const RULES: Record<Metric, Rule> = {
  diameter: { response: 0.7, progression: 1.2 },
  volume: { response: 0.35, progression: 1.728 },
};

/** The limits of each period, from its baseline to the next one or to the last visit. */
export function limits(course: Course, metric: Metric): Limits[] {
  const visits = datedVisits(course);
  const starts = periodStarts(course);
  const found: Limits[] = [];
  const last = visits.at(-1)?.time ?? 0;
  visits.forEach(({ visit, time }, n) => {
    const baseline = sumOf(visit, metric);
    if (!starts.has(visit.study_uid) || baseline === null || baseline <= 0) return;
    const next = visits.findIndex((later, m) => m > n && starts.has(later.visit.study_uid));
    const within = visits.slice(n, next < 0 ? undefined : next);
    const to = next < 0 ? last : visits[next]!.time;
    found.push({
      studyUid: visit.study_uid,
      from: time,
      to,
      baseline,
      response: baseline * RULES[metric].response,
      steps: limitSteps(within, baseline, to, metric),
    });
  });
  return found;
}

function limitSteps(visits: DatedVisit[], baseline: number, to: number, metric: Metric): LimitStep[] {
  const steps: LimitStep[] = [];
  let nadir = baseline;
  let from = visits[0]!.time;
  const close = (end: number) => {
    if (end > from) steps.push({ from, to: end, nadir, progression: nadir * RULES[metric].progression });
    from = end;
  };
  for (const { visit, time } of visits.slice(1)) {
    const value = sumOf(visit, metric);
    if (value === null || value >= nadir) continue;
    close(time);
    nadir = value;
  }
  close(to);
  return steps;
}

/** From the first to the last visit or event, with room at both ends. */
export function timeDomain(times: readonly number[]): [number, number] {
  const day = 86_400_000;
  if (times.length === 0) return [0, day];
  const first = Math.min(...times);
  const last = Math.max(...times);
  const room = Math.max((last - first) * 0.04, 14 * day);
  return [first - room, last + room];
}

/**
 * The course of a patient as the page uses it, and how single readings are taken.
 *
 * Pure. Lengths in mm, volumes in ml, times in ms since 1970 (UTC midnight of the day).
 */
import type { components } from '../../api/schema';

type Schemas = components['schemas'];

export type Course = Schemas['Course'];
export type CourseEvent = Schemas['CourseEvent'];
export type CourseObservation = Schemas['CourseObservation'];
export type CourseVisit = Schemas['CourseVisit'];
export type ListedPatient = Schemas['ListedPatient'];
export type Plan = Schemas['CoursePlan'];
export type Track = Schemas['CourseTrack'];

export type EventKind = CourseEvent['kind'];
/** In the order in which they are offered. */
export const EVENT_KINDS: readonly EventKind[] = [
  'radiosurgery',
  'radiotherapy',
  'surgery',
  'systemic_therapy',
  'immunotherapy',
  'steroids',
  'clinical',
  'other',
];

export type Metric = 'diameter' | 'volume';

/** What stands for a lesion that is seen but too small to measure (RECIST 1.1's default). */
export const TOO_SMALL_MM = 5;

/** Midnight UTC of an ISO day; null where there is none or it cannot be read. */
export function timeOf(day: string | null): number | null {
  if (!day || !/^\d{4}-\d{2}-\d{2}$/.test(day)) return null;
  const time = Date.parse(`${day}T00:00:00Z`);
  return Number.isNaN(time) ? null : time;
}

export interface DatedVisit {
  visit: CourseVisit;
  time: number;
}

/** Visits with a place on the axis of time, oldest first; those left out are in the table only. */
export function datedVisits(course: Pick<Course, 'visits'>): DatedVisit[] {
  return course.visits
    .filter((visit) => visit.left_out === null)
    .flatMap((visit) => {
      const time = timeOf(visit.date);
      return time === null ? [] : [{ visit, time }];
    })
    .sort((a, b) => a.time - b.time);
}

export function observationAt(track: Track, studyUid: string): CourseObservation | null {
  return track.observations.find((it) => it.study_uid === studyUid) ?? null;
}

/** The sum of the targets; null unless every target has a value. */
export function sumOf(visit: CourseVisit, metric: Metric): number | null {
  if (metric === 'volume') return visit.assessment?.volumetric?.sum_ml ?? null;
  return visit.sum_complete ? visit.sum_mm : null;
}

/** The size of a lesion at a visit; null where it has none. Gone is 0, too small its default. */
export function sizeOf(observation: CourseObservation | null, metric: Metric): number | null {
  if (!observation || observation.review === 'rejected') return null;
  const measured = metric === 'diameter' ? observation.longest_diameter_mm : observation.volume_ml;
  if (observation.state === 'absent') return 0;
  if (observation.state === 'too_small') return measured ?? (metric === 'diameter' ? TOO_SMALL_MM : null);
  return observation.state === 'measured' ? measured : null;
}

/** Change in per cent; null where there is nothing to compare with. */
/** Change of the sum against baseline, as the service reckoned it. */
export function sumChangeOf(visit: CourseVisit, metric: Metric): number | null {
  if (metric === 'volume') return visit.assessment?.volumetric?.change_from_baseline_percent ?? null;
  return visit.change_from_baseline_percent;
}

export function percentChange(now: number | null, reference: number | null): number | null {
  if (now === null || reference === null || reference <= 0) return null;
  return ((now - reference) / reference) * 100;
}

/** Where the comparison starts: the baseline, and every visit at which it starts anew. */
export function periodStarts(course: Course): Set<string> {
  const starts = new Set(course.visits.filter((visit) => visit.is_baseline).map((visit) => visit.study_uid));
  for (const reset of course.plan.resets) starts.add(reset.study_uid);
  return starts;
}

/** The baseline that holds at a visit; null before the first. Visits stand in order of time. */
export function baselineAt(course: Course, studyUid: string): CourseVisit | null {
  const starts = periodStarts(course);
  let baseline: CourseVisit | null = null;
  for (const visit of course.visits) {
    if (starts.has(visit.study_uid)) baseline = visit;
    if (visit.study_uid === studyUid) return baseline;
  }
  return null;
}

/** Change of a lesion against baseline: the service's for diameters, reckoned here for volumes. */
export function changeOf(course: Course, track: Track, studyUid: string, metric: Metric): number | null {
  const now = observationAt(track, studyUid);
  if (metric === 'diameter') return now?.change_percent ?? null;
  const baseline = baselineAt(course, studyUid);
  if (!baseline || baseline.study_uid === studyUid) return null;
  return percentChange(sizeOf(now, metric), sizeOf(observationAt(track, baseline.study_uid), metric));
}

/** Family^Given^Middle^Prefix^Suffix (alphabetic group) as a person reads it. */
export function personName(dicom: string | null): string {
  const [family = '', given = '', middle = '', prefix = '', suffix = ''] = ((dicom ?? '').split('=')[0] ?? '').split('^');
  const first = [prefix, given, middle].map((part) => part.trim()).filter(Boolean).join(' ');
  return [family.trim(), first, suffix.trim()].filter(Boolean).join(', ');
}

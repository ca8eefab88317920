/**
 * The lesions of the open visit beside those of the visit before it.
 *
 * Pure. A row is one lesion of the patient that was seen at either visit; lesions of the
 * shown result which the course does not know (yet) get a row without history, so that
 * nothing found is ever left out.
 */
import type { Course, CourseObservation, CourseVisit, Track } from '../api/course';
import type { Lesion, Result } from '../api/types';

export type Change = 'larger' | 'smaller' | 'equal';
/** What a reader has to know about a lesion beyond its size. */
export type Status =
  | 'pending' | 'new' | 'gone' | 'reappeared' | 'merged' | 'split'
  | 'too_small' | 'not_assessed' | 'locally_treated' | 'rejected';

export interface Row {
  key: string;
  track: Track | null;
  now: CourseObservation | null;
  before: CourseObservation | null;
  /** The lesion of the shown result; null where it is seen at the other visit only. */
  lesion: Lesion | null;
  name: string;
  colour: readonly number[];
  change_mm: number | null;
  status: Status[];
}

/** Below this a change is within the reading of tenths of a millimetre. */
const EQUAL_MM = 0.05;

export function visitOf(course: Course | null, studyUid: string | null): CourseVisit | null {
  return course?.visits.find((visit) => visit.study_uid === studyUid) ?? null;
}

/** The visit before the given one that has a result; null at the first. Visits stand in order of time. */
export function previousVisit(course: Course | null, studyUid: string | null): CourseVisit | null {
  const visits = course?.visits ?? [];
  const index = visits.findIndex((visit) => visit.study_uid === studyUid);
  return visits.slice(0, Math.max(0, index)).reverse().find((visit) => visit.result_id !== null) ?? null;
}

/** Whether the visit still has to be lined up with the ones before: links come by themselves. */
export function isBeingAligned(course: Course | null, studyUid: string): boolean {
  const visit = visitOf(course, studyUid);
  return Boolean(visit?.result_id && !visit.registration && course?.visits[0] !== visit);
}

export function direction(change_mm: number): Change {
  if (Math.abs(change_mm) < EQUAL_MM) return 'equal';
  return change_mm > 0 ? 'larger' : 'smaller';
}

/** Whether the course speaks of the result that is shown, and not of another version. */
export function courseIsOf(course: Course | null, result: Result | null): boolean {
  const visit = result && visitOf(course, result.study_uid);
  return Boolean(visit && visit.result_id === result.id);
}

export function comparisonRows(course: Course | null, result: Result): Row[] {
  const lesions = new Map(result.lesions.map((lesion) => [lesion.id, lesion]));
  const previous = previousVisit(course, result.study_uid);
  const rows: Row[] = [];
  for (const track of courseIsOf(course, result) ? (course?.tracks ?? []) : []) {
    const now = observationAt(track, result.study_uid);
    const before = previous ? observationAt(track, previous.study_uid) : null;
    const lesion = lesions.get(now?.lesion_id ?? '') ?? null;
    if (lesion) lesions.delete(lesion.id);
    if (!lesion && !hasSomething(before) && !now?.reading?.state) continue;
    rows.push(rowOf(track, now, before, lesion));
  }
  const waits = !isBeingAligned(course, result.study_uid);
  const unlinked = new Set(visitOf(course, result.study_uid)?.unlinked.map((it) => it.lesion_id));
  for (const lesion of lesions.values()) {
    const row = rowOf(null, null, null, lesion);
    rows.push(waits && unlinked.has(lesion.id) ? { ...row, status: ['pending', ...row.status] } : row);
  }
  return rows.sort(byNeed);
}

function rowOf(
  track: Track | null,
  now: CourseObservation | null,
  before: CourseObservation | null,
  lesion: Lesion | null,
): Row {
  return {
    // The same while the lesion is linked, measured anew or renamed.
    key: lesion?.finding_uid ?? track?.id ?? '',
    track,
    now,
    before,
    lesion,
    name: track?.label || lesion?.name || '',
    colour: track?.colour ?? lesion?.colour ?? [128, 128, 128],
    change_mm: now?.change_mm ?? null,
    status: statusOf(now, before, lesion),
  };
}

export function observationAt(track: Track, studyUid: string): CourseObservation | null {
  return track.observations.find((it) => it.study_uid === studyUid) ?? null;
}

function hasSomething(observation: CourseObservation | null): boolean {
  return observation !== null && observation.lesion_id !== null && observation.review !== 'rejected';
}

const SAID_BY_STATE: readonly Status[] = ['too_small', 'not_assessed', 'locally_treated', 'merged', 'split'];

function statusOf(now: CourseObservation | null, before: CourseObservation | null, lesion: Lesion | null): Status[] {
  const found = new Set<Status>();
  if (now?.link?.state === 'pending') found.add('pending');
  if ((now?.review ?? lesion?.review) === 'rejected') found.add('rejected');
  const relation = now?.link?.relation;
  if (lesion && relation === 'new') found.add('new');
  if (lesion && relation === 'reappeared') found.add('reappeared');
  if (relation === 'merge') found.add('merged');
  if (relation === 'split') found.add('split');
  const said = SAID_BY_STATE.find((state) => state === now?.state);
  if (said) found.add(said);
  else if (!lesion && hasSomething(before)) found.add('gone');
  return [...found];
}

/** What waits for the reader first, then by size now, then what is gone by size before. */
function byNeed(a: Row, b: Row): number {
  const waits = (row: Row) => (row.status.includes('pending') ? 0 : 1);
  const size = (row: Row) => row.now?.longest_diameter_mm ?? row.lesion?.longest_diameter_mm ?? null;
  const gone = (row: Row) => (size(row) === null ? 1 : 0);
  return (
    waits(a) - waits(b) ||
    gone(a) - gone(b) ||
    (size(b) ?? b.before?.longest_diameter_mm ?? 0) - (size(a) ?? a.before?.longest_diameter_mm ?? 0) ||
    a.name.localeCompare(b.name)
  );
}

/** Rigid matrix from the patient space of one visit to that of another; null: not known. */
export function between(course: Course | null, fromStudy: string, toStudy: string): number[][] | null {
  const from = toEarliest(course, fromStudy);
  const to = toEarliest(course, toStudy);
  return from && to ? multiply(inverseRigid(to), from) : null;
}

const IDENTITY = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];

function toEarliest(course: Course | null, studyUid: string): number[][] | null {
  const visit = visitOf(course, studyUid);
  if (!visit) return null;
  if (visit.registration) return visit.registration.accepted ? visit.registration.matrix : null;
  return course?.visits[0] === visit ? IDENTITY : null;
}

const at = (m: readonly (readonly number[])[], row: number, column: number) => m[row]?.[column] ?? 0;

export function multiply(a: number[][], b: number[][]): number[][] {
  return [0, 1, 2, 3].map((row) =>
    [0, 1, 2, 3].map((column) => [0, 1, 2, 3].reduce((sum, k) => sum + at(a, row, k) * at(b, k, column), 0)),
  );
}

/** Inverse of a rotation and a shift. */
export function inverseRigid(m: number[][]): number[][] {
  const rows = [0, 1, 2].map((row) => {
    const turned = [0, 1, 2].map((column) => at(m, column, row));
    const shift = -turned.reduce((sum, value, k) => sum + value * at(m, k, 3), 0);
    return [...turned, shift];
  });
  return [...rows, [0, 0, 0, 1]];
}

export function movePoint(m: number[][], point: readonly number[]): number[] {
  return [0, 1, 2].map((row) => [0, 1, 2].reduce((sum, k) => sum + at(m, row, k) * (point[k] ?? 0), at(m, row, 3)));
}

export function turnDirection(m: number[][], vector: readonly number[]): number[] {
  return [0, 1, 2].map((row) => [0, 1, 2].reduce((sum, k) => sum + at(m, row, k) * (vector[k] ?? 0), 0));
}

/** Everything the panel shows about the study that is open, and what follows from it. */
import type { Course } from '../api/course';
import type { Problem } from '../api/problem';
import type { Job, Lesion, Model, Result, SeriesCandidate, StudySeries, User } from '../api/types';

/** A change of the reader that is on its way to the server. */
export type Action =
  | 'review' | 'rename' | 'delete' | 'undo' | 'track' | 'link' | 'reading' | 'sign' | 'update' | 'export' | 'save' | 'use';

/** Somebody else changed the result while edits were made to it. */
export interface Conflict {
  /** The version that counts now; null where it could not be read. */
  theirs: Result | null;
  /** Whether the edits touched the outlines (they can be kept), or only said something. */
  voxels: boolean;
}

/** What the last change did, and how to take it back. */
export interface Undo {
  kind: 'version' | 'link';
  /** Of the lesion. */
  name: string;
}

export interface State {
  session: 'unknown' | 'open' | 'over';
  user: User | null;
  studyUid: string | null;
  loading: boolean;
  series: StudySeries | null;
  /** The series the user picked by hand; null: the one the service chose. */
  override: string | null;
  models: Model[] | null;
  /** The model the user picked by hand, for every study until the mode is left; null: the default. */
  modelName: string | null;
  /** The job in hand, or the last one of this visit that did not succeed. */
  job: Job | null;
  starting: boolean;
  cancelling: boolean;
  /** The server did not answer the last question about the job; asked again soon. */
  offline: boolean;
  /** Newest first. */
  results: Result[];
  shownId: string | null;
  overlay: 'none' | 'loading' | 'shown' | 'failed';
  selectedLesionId: string | null;
  diameters: boolean;
  problem: Problem | null;
  course: Course | null;
  busy: Action | null;
  undo: Undo | null;
  /** The outlines on screen differ from the stored ones. */
  unsaved: boolean;
  conflict: Conflict | null;
  /** The visit before beside this one. */
  compare: 'off' | 'opening' | 'on';
  /** Whether both sides scroll together: not where the visits could not be aligned. */
  linked: boolean;
}

export const INITIAL: State = {
  session: 'unknown',
  user: null,
  studyUid: null,
  loading: false,
  series: null,
  override: null,
  models: null,
  modelName: null,
  job: null,
  starting: false,
  cancelling: false,
  offline: false,
  results: [],
  shownId: null,
  overlay: 'none',
  selectedLesionId: null,
  diameters: false,
  problem: null,
  course: null,
  busy: null,
  undo: null,
  unsaved: false,
  conflict: null,
  compare: 'off',
  linked: false,
};

/** What is forgotten when another study is opened. */
export function freshStudy(studyUid: string | null): Partial<State> {
  const { session: _session, user: _user, models: _models, modelName: _modelName, ...rest } = INITIAL;
  return { ...rest, studyUid };
}

export type ActiveJob = Job & { state: 'queued' | 'running' };

export function isActive(job: Job | null): job is ActiveJob {
  return job?.state === 'queued' || job?.state === 'running';
}

/** In the place of who asked for a job that nobody pressed for. */
const AUTOMATIC = 'rule:zero-click';

/** Whether the job waits behind all others, and a press would bring it forward. */
export function isUnasked(job: Job | null): boolean {
  return job?.state === 'queued' && job.requested_by === AUTOMATIC;
}

/** The series a press would segment. */
export function seriesToRun(state: State): SeriesCandidate | null {
  const uid = state.override ?? state.series?.chosen ?? null;
  return state.series?.candidates.find((candidate) => candidate.series_uid === uid) ?? null;
}

/** The model a press would run. */
export function modelToRun(state: State): Model | null {
  const { models, modelName } = state;
  return models?.find((model) => model.name === modelName)
    ?? models?.find((model) => model.is_default) ?? models?.[0] ?? null;
}

export function shownResult(state: State): Result | null {
  return state.results.find((result) => result.id === state.shownId) ?? null;
}

export function selectedLesion(state: State): Lesion | null {
  return shownResult(state)?.lesions.find((lesion) => lesion.id === state.selectedLesionId) ?? null;
}

export type Obstacle = 'loading' | 'session-over' | 'role' | 'no-study' | 'no-series' | 'no-model' | 'busy';

/** Why a press would do nothing, or null where it would start. */
export function obstacle(state: State): Obstacle | null {
  if (state.session === 'over') return 'session-over';
  if (!state.studyUid) return 'no-study';
  if (state.session === 'unknown' || state.loading) return 'loading';
  if (state.user?.role === 'viewer') return 'role';
  if (state.starting || (isActive(state.job) && !isUnasked(state.job))) return 'busy';
  if (state.models?.length === 0) return 'no-model';
  if (state.series && !seriesToRun(state)) return 'no-series';
  return null;
}

/** Whether the role allows to review and to correct. */
export function mayEdit(state: State): boolean {
  return state.session === 'open' && state.user !== null && state.user.role !== 'viewer';
}

/** Whether the role allows to sign. */
export function maySign(state: State): boolean {
  return mayEdit(state) && (state.user?.role === 'reviewer' || state.user?.role === 'admin');
}

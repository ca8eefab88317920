/**
 * What the reader decides about the open study: review, names, links, inputs, signature.
 *
 * Every decision goes to the server at once and its answer is what is shown; nothing is
 * kept here. One decision at a time: while one is on its way, a second press does nothing.
 * Where somebody else was quicker, the present state is loaded and that is said.
 */
import { Problem } from './api/problem';
import type { Course } from './api/course';
import type { ReaderApi } from './api/reader';
import type {
  LesionChange, LinkRequest, ReadingRequest, ReviewRequest, TrackReadingRequest, TrackRequest, Updated,
} from './api/requests';
import type { Lesion, Result } from './api/types';
import { isBeingAligned, observationAt, visitOf } from './state/comparison';
import { pause, whenVisible } from './state/poll';
import { isActive, shownResult, type Action, type State } from './state/state';
import type { Store } from './state/store';

/** What the rest of the panel does for a decision. */
export interface Surroundings {
  /** Ends when another study is opened. */
  signal(): AbortSignal;
  fail(error: unknown): void;
  /** Put a new version in the list, and show it. */
  adopt(result: Result): Promise<void>;
  updated(answer: Updated): void;
  stored(): void;
  /** Ask the reader whether to leave unsaved outlines. */
  mayLeave(): boolean;
  save(content: Blob, name: string): void;
}

const ALIGNING_MS = 4000;
const ALIGNING_LONGEST_MS = 180_000;
const JOB_MS = 3000;

export class Reading {
  /** The study whose alignment is being waited for. */
  private awaiting: string | null = null;

  constructor(
    private readonly api: ReaderApi,
    private readonly store: Store<State>,
    private readonly around: Surroundings,
  ) {}

  /** Read the course anew; goes on asking by itself while the visits are still being aligned. */
  async load(studyUid: string, signal: AbortSignal): Promise<void> {
    const course = await this.api.course(studyUid);
    if (signal.aborted) return;
    this.store.set({ course });
    if (isBeingAligned(course, studyUid)) void this.awaitAlignment(studyUid, signal);
  }

  private async awaitAlignment(studyUid: string, signal: AbortSignal): Promise<void> {
    if (this.awaiting === studyUid) return;
    this.awaiting = studyUid;
    const end = Date.now() + ALIGNING_LONGEST_MS;
    try {
      while (Date.now() < end && isBeingAligned(this.store.get().course, studyUid)) {
        await pause(ALIGNING_MS, signal);
        await whenVisible(signal);
        const course = await this.api.course(studyUid);
        // A decision that is on its way brings a newer course of its own.
        if (!signal.aborted && !this.store.get().busy) this.store.set({ course });
      }
    } catch (error) {
      if (!signal.aborted) this.around.fail(error);
    } finally {
      if (this.awaiting === studyUid) this.awaiting = null;
    }
  }

  accept(lesions: readonly Lesion[]): Promise<boolean> {
    return this.review(lesions.map(({ id }) => ({ id, review: 'accepted' as const })));
  }

  reject(lesions: readonly Lesion[]): Promise<boolean> {
    return this.review(lesions.map(({ id }) => ({ id, review: 'rejected' as const })));
  }

  /** Take a review of lesions back. */
  reopen(lesions: readonly Lesion[]): Promise<boolean> {
    return this.review(lesions.map(({ id }) => ({ id, review: 'unverified' as const })));
  }

  /** Accept the result with every lesion that was not rejected. */
  acceptAll(): Promise<boolean> {
    const lesions = shownResult(this.store.get())?.lesions ?? [];
    const left = lesions.filter((lesion) => lesion.review !== 'rejected');
    return this.review(left.map(({ id }) => ({ id, review: 'accepted' as const })), 'accepted');
  }

  rejectAll(): Promise<boolean> {
    const lesions = shownResult(this.store.get())?.lesions ?? [];
    return this.review(lesions.map(({ id }) => ({ id, review: 'rejected' as const })), 'rejected');
  }

  private review(lesions: LesionChange[], state?: ReviewRequest['state']): Promise<boolean> {
    return this.change('review', { lesions, ...(state ? { state } : {}) }, null);
  }

  rename(lesion: Lesion, name: string): Promise<boolean> {
    return this.change('rename', { lesions: [{ id: lesion.id, name }] }, null);
  }

  remove(lesion: Lesion): Promise<boolean> {
    return this.change('delete', { lesions: [{ id: lesion.id, deleted: true }] }, lesion.name);
  }

  /** Take the last deletion or link back. */
  async undo(): Promise<void> {
    const { undo, course } = this.store.get();
    const result = shownResult(this.store.get());
    let done = false;
    if (undo?.kind === 'link' && course) {
      done = await this.act('undo', async () => this.take(await this.api.undoLink(course.patient.id)));
    } else if (undo?.kind === 'version' && result) {
      done = await this.act('undo', async (signal) => {
        const restored = await this.api.restore(result.id, result.revision);
        if (!signal.aborted) await this.show(restored, signal);
      });
    }
    if (done) this.store.set({ undo: null });
  }

  changeTrack(trackId: string, change: Omit<TrackRequest, 'revision'>): Promise<boolean> {
    const track = this.store.get().course?.tracks.find((it) => it.id === trackId);
    if (!track) return Promise.resolve(false);
    return this.act('track', async () =>
      this.take(await this.api.changeTrack(trackId, { ...change, revision: track.revision })),
    );
  }

  /** Say something of a lesion at the open visit; what was said before stays. */
  readTrack(trackId: string, change: Omit<TrackReadingRequest, 'revision'>): Promise<boolean> {
    const { course, studyUid } = this.store.get();
    const track = course?.tracks.find((it) => it.id === trackId);
    if (!track || !studyUid) return Promise.resolve(false);
    const { author: _author, ...before } = observationAt(track, studyUid)?.reading ?? { author: null };
    const body = { ...before, ...change, revision: track.revision };
    return this.act('track', async () => this.take(await this.api.readTrack(trackId, studyUid, body)));
  }

  link(lesion: Lesion, action: LinkRequest['action'], trackId?: string): Promise<boolean> {
    const { course, studyUid } = this.store.get();
    if (!course || !studyUid) return Promise.resolve(false);
    const body = { study_uid: studyUid, lesion_id: lesion.id, action, ...(trackId ? { track_id: trackId } : {}) };
    return this.act('link', async () => {
      this.take(await this.api.link(course.patient.id, body));
      this.store.set({ undo: { kind: 'link', name: lesion.name } });
    });
  }

  /** Enter what only a reader knows of the visit; what was entered before stays. */
  saveReading(change: Partial<ReadingRequest>, action: Action = 'reading'): Promise<boolean> {
    const { course, studyUid } = this.store.get();
    const visit = visitOf(course, studyUid);
    if (!visit || !studyUid) return Promise.resolve(false);
    const { author: _author, missing: _missing, ...before } = visit.reading;
    return this.act(action, async () => this.take(await this.api.saveReading(studyUid, { ...before, ...change })));
  }

  /** Make the shown result the one that is assessed. */
  use(result: Result): Promise<boolean> {
    return this.saveReading({ selected_result_id: result.id }, 'use');
  }

  async sign(category: string | null, comment: string): Promise<boolean> {
    const { course, studyUid } = this.store.get();
    const inputs = visitOf(course, studyUid)?.assessment?.inputs_sha256;
    if (!course || !studyUid || !inputs) return false;
    const body = { rule_set: course.rule_set, category, comment, inputs_sha256: inputs };
    return this.act('sign', async (signal) => {
      await this.api.sign(studyUid, body);
      await this.load(studyUid, signal);
    });
  }

  /** Have the studies of this patient that have no result segmented, and follow them. */
  async bringUpToDate(): Promise<void> {
    const { course, studyUid } = this.store.get();
    if (!course || !studyUid) return;
    let queued: string[] = [];
    await this.act('update', async () => {
      const answer = await this.api.bringUpToDate(course.patient.id);
      queued = answer.queued;
      this.around.updated(answer);
    });
    const signal = this.around.signal();
    for (const id of queued) await this.awaitJob(id, signal);
    if (queued.length > 0 && !signal.aborted) await this.reload(studyUid, signal);
  }

  storeExports(formats: string[]): Promise<boolean> {
    const result = shownResult(this.store.get());
    return this.act('export', async () => {
      if (!result) return;
      await this.api.storeExports(result.id, formats);
      this.around.stored();
    });
  }

  download(path: string): Promise<boolean> {
    return this.act('export', async () => {
      const { content, name } = await this.api.download(path);
      this.around.save(content, name);
    });
  }

  dismissConflict(): void {
    this.store.set({ conflict: null });
  }

  /** Show what somebody else has made meanwhile. */
  async showTheirs(): Promise<void> {
    const { conflict, studyUid } = this.store.get();
    this.store.set({ conflict: null, unsaved: false });
    const signal = this.around.signal();
    if (conflict?.theirs) await this.around.adopt(conflict.theirs);
    if (studyUid) await this.reload(studyUid, signal);
  }

  private change(action: Action, change: Omit<ReviewRequest, 'revision'>, deleted: string | null): Promise<boolean> {
    const result = shownResult(this.store.get());
    if (!result) return Promise.resolve(false);
    return this.act(action, async (signal) => {
      const changed = await this.api.review(result.id, { ...change, revision: result.revision });
      if (signal.aborted) return;
      this.store.set({ undo: deleted === null ? null : { kind: 'version', name: deleted } });
      await this.show(changed, signal);
    });
  }

  /** Show a changed result: the same one with another review, or a new version. */
  private async show(changed: Result, signal: AbortSignal): Promise<void> {
    const { results, studyUid } = this.store.get();
    if (results.some((known) => known.id === changed.id)) {
      this.store.set({ results: results.map((known) => (known.id === changed.id ? changed : known)) });
    } else {
      await this.around.adopt(changed);
    }
    if (studyUid) await this.reload(studyUid, signal);
  }

  private take(course: Course): void {
    if (course.visits.some((visit) => visit.study_uid === this.store.get().studyUid)) this.store.set({ course });
  }

  private async reload(studyUid: string, signal: AbortSignal): Promise<void> {
    const [course, results] = await Promise.all([this.api.course(studyUid), this.api.results(studyUid)]);
    if (!signal.aborted) this.store.set({ course, results });
  }

  private async awaitJob(id: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      try {
        await pause(JOB_MS, signal);
        const job = await this.api.job(id, signal);
        if (job && !isActive(job)) return;
      } catch (error) {
        if (signal.aborted) return;
        return this.around.fail(error);
      }
    }
  }

  /** Do one thing; whether it was done. */
  private async act(action: Action, work: (signal: AbortSignal) => Promise<void> | void): Promise<boolean> {
    if (this.store.get().busy) return false;
    const signal = this.around.signal();
    this.store.set({ busy: action, problem: null });
    try {
      await work(signal);
      return true;
    } catch (error) {
      if (!signal.aborted) await this.told(error, signal);
      return false;
    } finally {
      if (!signal.aborted) this.store.set({ busy: null });
    }
  }

  private async told(error: unknown, signal: AbortSignal): Promise<void> {
    const { studyUid } = this.store.get();
    if (!(error instanceof Problem) || error.code !== 'edit-conflict' || !studyUid) return this.around.fail(error);
    try {
      await this.reload(studyUid, signal);
      const theirs = await theirVersion(this.api, error);
      if (!signal.aborted) this.store.set({ conflict: { theirs, voxels: false } });
    } catch (second) {
      if (!signal.aborted) this.around.fail(second);
    }
  }
}

/** The version somebody else made meanwhile, as the problem names it. */
export async function theirVersion(api: ReaderApi, problem: Problem): Promise<Result | null> {
  const id = problem.facts.current_result_id;
  return typeof id === 'string' ? api.result(id) : null;
}

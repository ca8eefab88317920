/**
 * What happens when: opens a study, starts and follows its job, shows its results.
 *
 * One controller lives while the mode is open; panels come and go. It is the only writer
 * of the store. Whatever belongs to a study is dropped when another one is opened: each
 * study has an AbortController of its own, and late answers are recognised by it.
 */
import { asProblem, Problem } from './api/problem';
import type { ReaderApi } from './api/reader';
import type { Updated } from './api/requests';
import type { Job, Lesion, Result } from './api/types';
import { Corrections } from './corrections';
import type { Viewer } from './ohif/viewer';
import { Reading, type Surroundings } from './reading';
import { visitOf } from './state/comparison';
import { FIRST_DELAY_MS, nextDelay, pause, whenVisible, type Answer } from './state/poll';
import { freshStudy, INITIAL, isActive, obstacle, selectedLesion, shownResult, type State } from './state/state';
import type { Store } from './state/store';
import { Visits } from './visits';

export interface Words {
  ready(lesions: number): { title: string; message: string };
  failed(problem: Problem): { title: string; message: string };
  updated(answer: Updated): { title: string; message: string };
  stored(): { title: string; message: string };
  /** Asked before the mode is left with unsaved outlines. */
  leave(): string;
}

export class Controller {
  private study = new AbortController();
  private stopWatching: (() => void) | null = null;
  /** Id of the job whose end is waited for. */
  private followed: string | null = null;

  readonly reading: Reading;
  readonly corrections: Corrections;
  readonly visits: Visits;

  constructor(
    private readonly api: ReaderApi,
    private readonly viewer: Viewer,
    private readonly store: Store<State>,
    private readonly words: Words,
    save: (content: Blob, name: string) => void,
  ) {
    const around: Surroundings = {
      signal: () => this.study.signal,
      fail: (error) => this.fail(error),
      adopt: (result) => this.adopt(result),
      updated: (answer) => this.viewer.notify('info', ...pair(this.words.updated(answer))),
      stored: () => this.viewer.notify('success', ...pair(this.words.stored())),
      mayLeave: () => window.confirm(this.words.leave()),
      save,
    };
    this.reading = new Reading(api, store, around);
    this.corrections = new Corrections(api, viewer, store, around);
    this.visits = new Visits(api, viewer, store, around, {
      select: (lesion) => this.select(lesion),
      draw: (result) => this.draw(result),
    });
  }

  /** Begin: the mode has been entered. */
  enter(): void {
    this.leave();
    this.stopWatching = this.viewer.onChange(() => this.followStudy());
    this.corrections.enter();
    void this.readSession();
    this.followStudy();
  }

  /** End: the mode is left; nothing is asked or drawn any more. */
  leave(): void {
    if (this.stopWatching) this.corrections.leave();
    this.stopWatching?.();
    this.stopWatching = null;
    this.study.abort();
    this.viewer.hideDiameters();
    this.store.set(INITIAL);
  }

  /** Start a job for the study that is open. A second press while one runs does nothing. */
  async run(): Promise<void> {
    this.viewer.openPanel();
    const { studyUid, override, modelName } = this.store.get();
    if (!studyUid || obstacle(this.store.get())) return;
    const study = this.study;
    const unasked = this.store.get().job;
    this.store.set({ starting: true, problem: null, job: null });
    try {
      const job = await this.api.start(studyUid, override, modelName);
      if (study.signal.aborted) return;
      this.store.set({ starting: false, job });
      // A job that waited unasked is followed already; the press has brought it forward.
      if (job.id !== unasked?.id || !isActive(unasked)) await this.follow(job, study.signal, true);
    } catch (error) {
      if (!study.signal.aborted) this.fail(error, { starting: false });
    }
  }

  async cancel(): Promise<void> {
    const { job } = this.store.get();
    if (!isActive(job)) return;
    const study = this.study;
    this.store.set({ cancelling: true });
    try {
      const fresh = await this.api.cancel(job.id);
      if (!study.signal.aborted && isActive(this.store.get().job)) this.store.set({ job: fresh });
    } catch (error) {
      // A job that ended in the meantime needs no word: the next answer shows its end.
      if (!study.signal.aborted && asProblem(error).code !== 'conflict') this.fail(error);
      if (!study.signal.aborted) this.store.set({ cancelling: false });
    }
  }

  /** Take another series than the one the service chose, and show it. */
  async choose(seriesUid: string | null): Promise<void> {
    const chosen = this.store.get().series?.chosen ?? null;
    this.store.set({ override: seriesUid === chosen ? null : seriesUid });
    if (seriesUid) await this.showSeries(seriesUid, this.study.signal);
  }

  /** Let the next press run another model than the default one. */
  useModel(name: string): void {
    const model = this.store.get().models?.find((known) => known.name === name);
    if (model) this.store.set({ modelName: model.is_default ? null : name });
  }

  async show(resultId: string): Promise<void> {
    const { results, shownId, diameters } = this.store.get();
    const result = results.find((candidate) => candidate.id === resultId);
    if (!result || (resultId === shownId && this.store.get().overlay === 'shown')) return;
    const before = shownResult(this.store.get());
    const back = before ? this.viewer.keepView(result.series_uid) : () => undefined;
    if (before && before.id !== resultId) this.viewer.hideResult(before);
    if (this.store.get().unsaved) this.store.set({ unsaved: false });
    this.viewer.hideDiameters();
    this.store.set({ shownId: resultId, selectedLesionId: null, diameters: false });
    await this.draw(result);
    back();
    if (diameters) await this.toggleDiameters(true);
  }

  async select(lesion: Lesion): Promise<void> {
    const result = shownResult(this.store.get());
    if (!result) return;
    this.store.set({ selectedLesionId: lesion.id });
    try {
      // The reader may have put another series there meanwhile, or removed the outlines.
      if (this.store.get().overlay === 'shown') await this.viewer.showResult(result);
      await this.goToSelected();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Go to the selected lesion; again where another was selected on the way, which may have arrived before. */
  private async goToSelected(): Promise<void> {
    let reached: string | null = null;
    for (;;) {
      const result = shownResult(this.store.get());
      const lesion = selectedLesion(this.store.get());
      if (!result || !lesion || lesion.id === reached) return;
      await this.viewer.goTo(result, lesion);
      reached = lesion.id;
    }
  }

  openTools(): void {
    this.viewer.openTools();
  }

  async toggleDiameters(on: boolean): Promise<void> {
    const result = shownResult(this.store.get());
    if (!result || !on) {
      this.viewer.hideDiameters();
      this.store.set({ diameters: false });
      return;
    }
    try {
      this.store.set({ diameters: true });
      await this.viewer.showDiameters(result);
    } catch (error) {
      this.fail(error, { diameters: false });
    }
  }

  /** Go to the course of the patient of the open study. */
  followUp(): void {
    const { studyUid } = this.store.get();
    if (studyUid) this.viewer.openFollowUp(studyUid);
  }

  async logOut(): Promise<void> {
    try {
      await this.api.logOut();
    } catch (error) {
      if (asProblem(error).code !== 'not-authenticated') return this.fail(error);
    }
    window.location.assign('/login');
  }

  dismissProblem(): void {
    this.store.set({ problem: null });
  }

  /** Ask everything anew, after a failure to load. */
  reload(): void {
    this.study.abort();
    this.store.set({ studyUid: null, problem: null });
    void this.readSession();
    this.followStudy();
  }

  /** Put a new version before the others and show it, where the reader is looking. */
  private async adopt(result: Result): Promise<void> {
    const others = this.store.get().results.filter((known) => known.id !== result.id);
    this.store.set({ results: [result, ...others] });
    await this.show(result.id);
    const { studyUid } = this.store.get();
    const { signal } = this.study;
    if (studyUid && !signal.aborted) await this.reading.load(studyUid, signal);
    this.visits.paint(result);
  }

  private fail(error: unknown, change: Partial<State> = {}): void {
    const problem = asProblem(error);
    const over = problem.code === 'not-authenticated';
    this.store.set({ ...change, ...(over ? { session: 'over' as const } : { problem }) });
  }

  private async readSession(): Promise<void> {
    try {
      const [session, models] = await Promise.all([this.api.session(), this.api.models()]);
      this.store.set({ session: 'open', user: session.user, models });
    } catch (error) {
      this.fail(error);
    }
  }

  private followStudy(): void {
    const studyUid = this.viewer.studyUid();
    if (!studyUid || studyUid === this.store.get().studyUid) return;
    this.study.abort();
    this.study = new AbortController();
    this.viewer.hideDiameters();
    this.viewer.leaveCompare();
    this.store.set({ ...freshStudy(studyUid), loading: true });
    void this.open(studyUid, this.study.signal);
  }

  private async open(studyUid: string, signal: AbortSignal): Promise<void> {
    try {
      const course = this.reading.load(studyUid, signal);
      const [series, results, job] = await Promise.all([
        this.api.series(studyUid),
        this.api.results(studyUid),
        this.api.activeJob(studyUid),
      ]);
      if (signal.aborted) return;
      this.store.set({ series, results, job, loading: false });
      if (series.chosen && results.length === 0) this.tellOpened(studyUid);
      if (job) void this.follow(job, signal, false).catch((error) => this.failUnless(signal, error));
      await course.catch((error) => this.failUnless(signal, error));
      if (signal.aborted) return;
      const standing = this.standing();
      if (standing && !job) await this.present(standing, signal);
      else if (standing) this.store.set({ shownId: standing.id });
      else if (series.chosen) await this.showSeries(series.chosen, signal);
    } catch (error) {
      this.failUnless(signal, error, { loading: false });
    }
  }

  /** A press may follow: let the worker fetch the images meanwhile. */
  private tellOpened(studyUid: string): void {
    // Only a saving of time: whatever fails here, the press does its own work.
    this.api.opened(studyUid).catch(() => undefined);
  }

  /** The result that is assessed, else the newest. */
  private standing(): Result | null {
    const { results, course, studyUid } = this.store.get();
    const id = visitOf(course, studyUid)?.result_id;
    return results.find((result) => result.id === id) ?? results[0] ?? null;
  }

  private async showSeries(seriesUid: string, signal: AbortSignal): Promise<void> {
    try {
      await this.viewer.showSeries(seriesUid);
    } catch (error) {
      this.failUnless(signal, error);
    }
  }

  private failUnless(signal: AbortSignal, error: unknown, change: Partial<State> = {}): void {
    if (!signal.aborted) this.fail(error, change);
  }

  /** Ask until the job has ended; then show what came of it. */
  private async follow(first: Job, signal: AbortSignal, mine: boolean): Promise<void> {
    let job = first;
    let delay_ms = FIRST_DELAY_MS;
    this.followed = first.id;
    while (isActive(job)) {
      await pause(delay_ms, signal);
      await whenVisible(signal);
      // The reader has asked for another job than the one that waited unasked.
      if (this.followed !== first.id) return;
      let answer: Answer = 'same';
      try {
        const fresh = await this.api.job(job.id, signal);
        if (fresh) {
          answer = 'changed';
          job = fresh;
        }
        if (fresh || this.store.get().offline) this.store.set({ job, offline: false });
      } catch (error) {
        if (!isPassing(asProblem(error)) || signal.aborted) throw error;
        answer = 'offline';
        this.store.set({ offline: true });
      }
      delay_ms = nextDelay(delay_ms, answer);
    }
    this.store.set({ cancelling: false });
    if (job.state === 'succeeded' && job.result_id) await this.finish(job, signal);
    else if (job.state === 'failed' && job.error && mine) {
      this.viewer.notify('error', ...pair(this.words.failed(new Problem(job.error))));
    }
  }

  private async finish(job: Job, signal: AbortSignal): Promise<void> {
    const result = await this.api.result(job.result_id ?? '');
    if (signal.aborted) return;
    const others = this.store.get().results.filter((known) => known.id !== result.id);
    this.store.set({ job: null, results: [result, ...others], overlay: 'none' });
    const course = this.reading.load(result.study_uid, signal).catch((error) => this.failUnless(signal, error));
    await this.present(result, signal);
    await course;
    this.visits.paint(result);
    if (!signal.aborted) this.viewer.notify('success', ...pair(this.words.ready(result.lesion_count)));
  }

  /** Show a result and go to the lesion asked for, else to the largest: the first slice shows air. */
  private async present(result: Result, signal: AbortSignal): Promise<void> {
    await this.show(result.id);
    const asked = this.viewer.askedLesionId();
    const first = result.lesions.find((lesion) => lesion.id === asked) ?? result.lesions[0];
    const { shownId, selectedLesionId, overlay } = this.store.get();
    // The reader may have gone to another lesion or result while the outlines were drawn.
    const untouched = shownId === result.id && selectedLesionId === null;
    if (first && untouched && !signal.aborted && overlay === 'shown') await this.select(first);
  }

  private async draw(result: Result): Promise<void> {
    if (!result.segmentation) {
      this.store.set({ overlay: 'none' });
      return;
    }
    const { signal } = this.study;
    this.store.set({ overlay: 'loading' });
    try {
      await this.viewer.showResult(result);
      if (signal.aborted) return;
      this.store.set({ overlay: 'shown' });
      this.visits.paint(result);
      this.corrections.drawn(result);
      // The viewer goes to the first outline when it has read them; a reader who has gone
      // to a lesion meanwhile is brought back there.
      await this.goToSelected();
    } catch (error) {
      this.failUnless(signal, error, { overlay: 'failed' });
    }
  }
}

const pair = (note: { title: string; message: string }): [string, string] => [note.title, note.message];

/** Whether asking again may well succeed without anyone doing anything. */
function isPassing(problem: Problem): boolean {
  return problem.code === 'network' || problem.code === 'too-many-requests' || problem.status >= 500;
}

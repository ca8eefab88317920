import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { localProblem } from '../src/api/problem';
import type { Result } from '../src/api/types';
import { INITIAL, modelToRun, obstacle } from '../src/state/state';
import { problem, setUp } from './fakes';
import { job, MODELS, result, SERIES, SESSION, STUDY } from './fixtures';

const settle = (time_ms = 0) => vi.advanceTimersByTimeAsync(time_ms);

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('document', Object.assign(new EventTarget(), { visibilityState: 'visible' }));
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe('opening a study', () => {
  it('shows the chosen series where there is no result yet', async () => {
    const { viewer, store, controller } = setUp();
    controller.enter();
    await settle();
    expect(viewer.showSeries).toHaveBeenCalledWith('2.25.5');
    expect(store.get()).toMatchObject({ series: SERIES, user: SESSION.user, models: MODELS, loading: false });
    expect(obstacle(store.get())).toBeNull();
  });

  it('shows the newest result by itself', async () => {
    const { viewer, store, controller } = setUp({ results: [result('2'), result('1')] });
    controller.enter();
    await settle();
    expect(viewer.showResult).toHaveBeenCalledWith(expect.objectContaining({ id: '2' }));
    expect(viewer.goTo).toHaveBeenCalledWith(expect.anything(), expect.objectContaining({ segment_number: 1 }));
    expect(viewer.notify).not.toHaveBeenCalled();
    expect(store.get()).toMatchObject({ shownId: '2', overlay: 'shown' });
  });

  it('goes to the lesion the address asks for', async () => {
    const { viewer, controller } = setUp({ results: [result('2')] });
    const asked = result('2').lesions[1];
    viewer.askedLesionId.mockReturnValue(asked?.id);
    controller.enter();
    await settle();
    expect(viewer.goTo).toHaveBeenCalledOnce();
    expect(viewer.goTo).toHaveBeenCalledWith(expect.anything(), expect.objectContaining({ id: asked?.id }));
  });

  it('says so to the service where a press may follow, and shows no failure of it', async () => {
    const failing = vi.fn(async () => {
      throw problem('database-unusable');
    });
    const { api, store, controller } = setUp({ api: { opened: failing } });
    controller.enter();
    await settle();
    expect(api.opened).toHaveBeenCalledWith(STUDY);
    expect(store.get()).toMatchObject({ problem: null, loading: false });
    const seen = setUp({ results: [result('1')] });
    seen.controller.enter();
    await settle();
    expect(seen.api.opened).not.toHaveBeenCalled();
  });

  it('leads to the follow-up of its patient', async () => {
    const { viewer, controller } = setUp();
    controller.followUp();
    expect(viewer.openFollowUp).not.toHaveBeenCalled();
    controller.enter();
    await settle();
    controller.followUp();
    expect(viewer.openFollowUp).toHaveBeenCalledWith(STUDY);
  });

  it('lets a press bring forward the job that waits unasked, and shows its result once', async () => {
    const waiting = job({ state: 'queued', requested_by: 'rule:zero-click', queue_position: 7 });
    const { api, viewer, store, controller } = setUp({
      active: waiting,
      api: { start: vi.fn(async () => ({ ...waiting, requested_by: 'ann', queue_position: 1 })) },
    });
    controller.enter();
    await settle();
    expect(obstacle(store.get())).toBeNull();
    await controller.run();
    expect(api.start).toHaveBeenCalledOnce();
    expect(obstacle(store.get())).toBe('busy');
    await settle(10_000);
    expect(viewer.notify).toHaveBeenCalledOnce();
    expect(store.get()).toMatchObject({ job: null, shownId: 'new' });
  });

  it('follows what the reader asked for, not what waited unasked', async () => {
    const waiting = job({ id: 'unasked', state: 'queued', requested_by: 'rule:zero-click' });
    const { api, store, controller } = setUp({
      active: waiting,
      api: { start: vi.fn(async () => job({ id: 'mine', state: 'queued' })) },
    });
    controller.enter();
    await settle();
    const run = controller.run();
    await settle(10_000);
    await run;
    expect(new Set(api.job.mock.calls.map(([id]) => id))).toEqual(new Set(['mine']));
    expect(store.get().job).toBeNull();
  });

  it('takes up the job that is running, as after a reload', async () => {
    const { api, store, controller } = setUp({ active: job() });
    controller.enter();
    await settle();
    expect(obstacle(store.get())).toBe('busy');
    await settle(1000);
    expect(api.job).toHaveBeenCalled();
    expect(store.get()).toMatchObject({ job: null, shownId: 'new', overlay: 'shown' });
  });

  it('forgets the study before, and its late answers', async () => {
    let answer: (results: Result[]) => void = () => {};
    const first = new Promise<Result[]>((resolve) => (answer = resolve));
    const { api, store, controller, open } = setUp();
    api.results.mockReturnValueOnce(first);
    controller.enter();
    await settle();
    open('2.25.2');
    await settle();
    answer([result('old')]);
    await settle();
    expect(store.get()).toMatchObject({ studyUid: '2.25.2', results: [], shownId: null });
  });

  it('says so where the session is over', async () => {
    const { store, controller } = setUp({ api: { series: vi.fn().mockRejectedValue(problem('not-authenticated', 401)) } });
    controller.enter();
    await settle();
    expect(store.get()).toMatchObject({ session: 'over', problem: null });
    expect(obstacle(store.get())).toBe('session-over');
  });
});

describe('a press', () => {
  it('starts one job however often it is pressed, follows it and shows the result', async () => {
    const { api, viewer, store, controller } = setUp();
    controller.enter();
    await settle();
    void controller.run();
    void controller.run();
    await settle();
    void controller.run();
    expect(api.start).toHaveBeenCalledTimes(1);
    expect(api.start).toHaveBeenCalledWith(STUDY, null, null);
    await settle(1000);
    expect(viewer.showResult).toHaveBeenCalledWith(expect.objectContaining({ id: 'new' }));
    expect(viewer.goTo).toHaveBeenCalledWith(expect.anything(), expect.objectContaining({ segment_number: 1 }));
    expect(viewer.notify).toHaveBeenCalledWith('success', 'ready', '2');
    expect(store.get().job).toBeNull();
    await settle(60_000);
    expect(api.job).toHaveBeenCalledTimes(1);
  });

  it('takes the series chosen by hand', async () => {
    const { api, viewer, store, controller } = setUp();
    controller.enter();
    await settle();
    await controller.choose('2.25.3');
    expect(viewer.showSeries).toHaveBeenLastCalledWith('2.25.3');
    void controller.run();
    await settle();
    expect(api.start).toHaveBeenCalledWith(STUDY, '2.25.3', null);
    await controller.choose('2.25.5');
    expect(store.get().override).toBeNull();
  });

  it('takes the model chosen by hand, and keeps it for the next study', async () => {
    const other = { ...MODELS[0]!, name: 'other', is_default: false };
    const { api, open, store, controller } = setUp({ api: { models: vi.fn(async () => [...MODELS, other]) } });
    controller.enter();
    await settle();
    expect(modelToRun(store.get())?.name).toBe('m');
    controller.useModel('unknown');
    expect(store.get().modelName).toBeNull();
    controller.useModel('other');
    open('2.25.77');
    await settle();
    expect(modelToRun(store.get())?.name).toBe('other');
    void controller.run();
    await settle();
    expect(api.start).toHaveBeenCalledWith('2.25.77', null, 'other');
    controller.useModel('m');
    expect(store.get().modelName).toBeNull();
  });

  it('is not possible for a viewer', async () => {
    const session = { ...SESSION, user: { ...SESSION.user, role: 'viewer' as const } };
    const { api, store, controller } = setUp({ api: { session: vi.fn(async () => session) } });
    controller.enter();
    await settle();
    await controller.run();
    expect(obstacle(store.get())).toBe('role');
    expect(api.start).not.toHaveBeenCalled();
  });

  it('shows why the job failed', async () => {
    const error = { code: 'volume-missing-slice', title: 'A slice is missing', detail: 'd', remedy: 'r' };
    const { viewer, store, controller } = setUp({ api: { job: vi.fn(async () => job({ state: 'failed', error })) } });
    controller.enter();
    await settle();
    void controller.run();
    await settle(1000);
    expect(store.get().job).toMatchObject({ state: 'failed', error });
    expect(viewer.notify).toHaveBeenCalledWith('error', 'failed', 'volume-missing-slice');
    expect(obstacle(store.get())).toBeNull();
  });

  it('can be made again after it was refused', async () => {
    const { api, store, controller } = setUp();
    api.start.mockRejectedValueOnce(problem('archive-unavailable', 503));
    controller.enter();
    await settle();
    await controller.run();
    expect(store.get().problem?.code).toBe('archive-unavailable');
    expect(obstacle(store.get())).toBeNull();
    void controller.run();
    await settle(1000);
    expect(store.get()).toMatchObject({ problem: null, shownId: 'new' });
  });

  it('says that nothing was found, and draws nothing', async () => {
    const none = result('new', { lesions: [], segmentation: null });
    const { viewer, store, controller } = setUp({ api: { result: vi.fn(async () => none) } });
    controller.enter();
    await settle();
    void controller.run();
    await settle(1000);
    expect(viewer.showResult).not.toHaveBeenCalled();
    expect(viewer.goTo).not.toHaveBeenCalled();
    expect(store.get()).toMatchObject({ shownId: 'new', overlay: 'none' });
    expect(viewer.notify).toHaveBeenCalledWith('success', 'ready', '0');
  });
});

describe('following a job', () => {
  it('goes on through a break of the connection', async () => {
    const { api, store, controller } = setUp();
    api.job.mockRejectedValueOnce(localProblem('network')).mockRejectedValueOnce(problem('not-ready', 503));
    controller.enter();
    await settle();
    void controller.run();
    await settle(600);
    expect(store.get()).toMatchObject({ offline: true, problem: null });
    await settle(20_000);
    expect(store.get()).toMatchObject({ offline: false, shownId: 'new' });
  });

  it('ends with the session', async () => {
    const { api, store, controller } = setUp();
    api.job.mockRejectedValue(problem('not-authenticated', 401));
    controller.enter();
    await settle();
    void controller.run();
    await settle(60_000);
    expect(api.job).toHaveBeenCalledTimes(1);
    expect(store.get().session).toBe('over');
  });

  it('stops when the mode is left', async () => {
    const { api, viewer, store, controller } = setUp();
    api.job.mockResolvedValue(job());
    controller.enter();
    await settle();
    void controller.run();
    await settle(2000);
    controller.leave();
    const asked = api.job.mock.calls.length;
    await settle(60_000);
    expect(api.job).toHaveBeenCalledTimes(asked);
    expect(viewer.hideDiameters).toHaveBeenCalled();
    expect(store.get()).toEqual(INITIAL);
  });

  it('rests while the page is hidden', async () => {
    const { api, controller } = setUp();
    api.job.mockResolvedValue(job());
    controller.enter();
    await settle();
    void controller.run();
    await settle();
    Object.assign(document, { visibilityState: 'hidden' });
    await settle(60_000);
    expect(api.job).not.toHaveBeenCalled();
  });

  it('can be cancelled, and shows that it was', async () => {
    const { api, store, controller } = setUp();
    api.job.mockResolvedValue(job());
    controller.enter();
    await settle();
    void controller.run();
    await settle();
    await controller.cancel();
    expect(api.cancel).toHaveBeenCalledWith('j');
    expect(store.get()).toMatchObject({ cancelling: true, job: { cancel_requested: true } });
    api.job.mockResolvedValue(job({ state: 'cancelled', cancel_requested: true }));
    await settle(5000);
    expect(store.get()).toMatchObject({ cancelling: false, job: { state: 'cancelled' }, problem: null });
  });
});

describe('a result', () => {
  it('can be an older one; diameters follow, outlines of the other go', async () => {
    const newest = result('2');
    const { viewer, store, controller } = setUp({ results: [newest, result('1')] });
    controller.enter();
    await settle();
    await controller.toggleDiameters(true);
    await controller.show('1');
    expect(viewer.hideResult).toHaveBeenCalledWith(newest);
    expect(viewer.showDiameters).toHaveBeenLastCalledWith(expect.objectContaining({ id: '1' }));
    expect(store.get()).toMatchObject({ shownId: '1', diameters: true });
    await controller.toggleDiameters(false);
    expect(store.get().diameters).toBe(false);
  });

  it('keeps its numbers where the viewer cannot draw it', async () => {
    const { viewer, store, controller } = setUp({ results: [result('1')] });
    viewer.showResult.mockRejectedValue(localProblem('viewer-overlay-failed'));
    controller.enter();
    await settle();
    expect(store.get()).toMatchObject({ shownId: '1', overlay: 'failed', problem: { code: 'viewer-overlay-failed' } });
  });

  it('leaves a reader where he went while the outlines were drawn', async () => {
    const shown = result('1');
    const { viewer, store, controller } = setUp({ results: [shown] });
    let drawn: () => void = () => undefined;
    viewer.showResult.mockImplementationOnce(() => new Promise<undefined>((done) => (drawn = () => done(undefined))));
    controller.enter();
    await settle();
    const second = shown.lesions[1];
    if (second) await controller.select(second);
    drawn();
    await settle();
    expect(store.get()).toMatchObject({ overlay: 'shown', selectedLesionId: second?.id });
    // Once when chosen, once more after the viewer has gone to the first outline by itself.
    expect(viewer.goTo.mock.calls).toEqual([[shown, second], [shown, second]]);
  });

  it('takes the viewer to a lesion', async () => {
    const shown = result('1');
    const { viewer, store, controller } = setUp({ results: [shown] });
    controller.enter();
    await settle();
    const second = shown.lesions[1];
    if (second) await controller.select(second);
    expect(viewer.goTo).toHaveBeenCalledWith(shown, second);
    expect(store.get().selectedLesionId).toBe(second?.id);
  });

  it('ends at the lesion that was chosen last, however long the way to another takes', async () => {
    const shown = result('1');
    const { viewer, store, controller } = setUp({ results: [shown] });
    controller.enter();
    await settle();
    const [first, second] = shown.lesions;
    if (!first || !second) throw new Error('two lesions are needed');
    let arrived: () => void = () => undefined;
    viewer.goTo.mockImplementationOnce(() => new Promise<undefined>((done) => (arrived = () => done(undefined))));
    const slow = controller.select(first);
    await settle();
    await controller.select(second);
    arrived();
    await slow;
    expect(store.get().selectedLesionId).toBe(second.id);
    expect(viewer.goTo).toHaveBeenLastCalledWith(shown, second);
    expect(viewer.goTo.mock.calls.slice(-3)).toEqual([[shown, first], [shown, second], [shown, second]]);
  });
});

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Problem } from '../src/api/problem';
import { problem, setUp } from './fakes';
import { lesion, result, STUDY } from './fixtures';
import { course, seen, track, visit } from './followup/courses';

const settle = (time_ms = 0) => vi.advanceTimersByTimeAsync(time_ms);

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('document', Object.assign(new EventTarget(), { visibilityState: 'visible' }));
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const own = result('r1', { revision: 4 });
const reading = { ...visit(1, null).reading, steroid_use: 'none', clinical: 'stable', revision: 7 };
const one = course(
  [visit(1, '2026-01-01', { study_uid: STUDY, result_id: 'r1', reading })],
  [track('M1', [seen(1, 10, { study_uid: STUDY, lesion_id: own.lesions[0]!.id })], { revision: 3 })],
);
const conflict = () =>
  new Problem({ code: 'edit-conflict', title: '', detail: '', remedy: '', status: 409, facts: { current_result_id: 'theirs', current_revision: 5 } });

async function opened(change: Parameters<typeof setUp>[0] = {}) {
  const it = setUp({ results: [own], course: one, ...change });
  it.controller.enter();
  await settle();
  return it;
}

describe('reviewing', () => {
  it('sends what was seen, and shows the answer', async () => {
    const accepted = { ...own, revision: 5, lesions: [lesion(1, { review: 'accepted' }), lesion(2)] };
    const { api, store, controller } = await opened({ api: { review: vi.fn(async () => accepted), results: vi.fn(async () => [accepted]) } });
    await controller.reading.accept([own.lesions[0]!]);
    expect(api.review).toHaveBeenCalledWith('r1', { revision: 5, lesions: [{ id: own.lesions[0]!.id, review: 'accepted' }] });
    expect(store.get()).toMatchObject({ busy: null, problem: null, shownId: 'r1' });
    expect(store.get().results[0]?.lesions[0]?.review).toBe('accepted');
  });

  it('accepts all but what was rejected, and rejects all', async () => {
    const mixed = { ...own, lesions: [lesion(1, { review: 'rejected' }), lesion(2)] };
    const { api, controller } = await opened({ results: [mixed], api: { review: vi.fn(async () => mixed) } });
    await controller.reading.acceptAll();
    expect(api.review).toHaveBeenLastCalledWith('r1', { revision: 4, state: 'accepted', lesions: [{ id: mixed.lesions[1]!.id, review: 'accepted' }] });
    await controller.reading.rejectAll();
    expect(api.review.mock.lastCall?.[1]).toMatchObject({ state: 'rejected', lesions: [{}, {}] });
  });

  it('does one thing at a time', async () => {
    let answer = (_: unknown) => {};
    const { api, controller } = await opened({ api: { review: vi.fn(() => new Promise((resolve) => (answer = resolve))) as never } });
    const first = controller.reading.accept([own.lesions[0]!]);
    await controller.reading.reject([own.lesions[0]!]);
    expect(api.review).toHaveBeenCalledTimes(1);
    answer(own);
    await first;
  });

  it('shows the version that a deletion makes, and takes it back', async () => {
    const made = result('r2', { predecessor_id: 'r1', revision: 1, origin: 'reader' });
    const restored = result('r3', { origin: 'reader' });
    const { api, viewer, store, controller } = await opened({ api: { review: vi.fn(async () => made), restore: vi.fn(async () => restored), results: vi.fn(async () => [own]) } });
    api.results.mockResolvedValue([made, own]);
    await controller.reading.remove(own.lesions[1]!);
    expect(api.review.mock.lastCall?.[1]).toEqual({ revision: 4, lesions: [{ id: own.lesions[1]!.id, deleted: true }] });
    expect(store.get()).toMatchObject({ shownId: 'r2', undo: { kind: 'version', name: 'Lesion 2' } });
    expect(viewer.hideResult).toHaveBeenCalledWith(own);
    api.results.mockResolvedValue([restored, made, own]);
    await controller.reading.undo();
    expect(api.restore).toHaveBeenCalledWith('r2', 1);
    expect(store.get()).toMatchObject({ shownId: 'r3', undo: null });
  });

  it('keeps the way back where undoing fails', async () => {
    const made = result('r2');
    const { controller, store } = await opened({
      results: [made, own],
      api: { review: vi.fn(async () => made), restore: vi.fn(async () => Promise.reject(problem('archive-unavailable'))) },
    });
    await controller.reading.remove(own.lesions[1]!);
    await controller.reading.undo();
    expect(store.get()).toMatchObject({ undo: { kind: 'version' }, problem: { code: 'archive-unavailable' } });
  });

  it('says when somebody else was quicker, and shows what stands now', async () => {
    const theirs = result('theirs', { author: 'bob' });
    const { api, store, controller } = await opened({ api: { review: vi.fn(async () => Promise.reject(conflict())), result: vi.fn(async () => theirs) } });
    await controller.reading.accept([own.lesions[0]!]);
    expect(store.get()).toMatchObject({ conflict: { theirs: { id: 'theirs' }, voxels: false }, problem: null, busy: null });
    expect(api.course).toHaveBeenCalledTimes(2);
    await controller.reading.showTheirs();
    expect(store.get().conflict).toBeNull();
  });
});

describe('the reader’s inputs', () => {
  it('replace the whole with one change, and nobody’s name with it', async () => {
    const { api, store, controller } = await opened({ api: { saveReading: vi.fn(async () => one) } });
    await controller.reading.saveReading({ clinical: 'better' });
    const [, body] = api.saveReading.mock.lastCall!;
    const { author: _author, missing: _missing, ...whole } = reading;
    expect(body).toEqual({ ...whole, clinical: 'better' });
    expect(store.get().course).toBe(one);
  });

  it('keep what was said of a lesion before', async () => {
    const said = { state: null, reason: null, into_track_id: null, treated_on: null, modality: null, radionecrosis_suspected: true, certainty: 'equivocal', projections: 2, reappearance: null, author: 'bob' };
    const before = course(one.visits, [track('M1', [seen(1, 10, { study_uid: STUDY, reading: said })], { revision: 3 })]);
    const { api, controller } = await opened({ course: before, api: { readTrack: vi.fn(async () => before) } });
    await controller.reading.readTrack('t-M1', { certainty: 'unequivocal' });
    const { author: _author, ...rest } = said;
    expect(api.readTrack).toHaveBeenCalledWith('t-M1', STUDY, { ...rest, certainty: 'unequivocal', revision: 3 });
  });

  it('name the revision of the track', async () => {
    const { api, controller } = await opened({ api: { changeTrack: vi.fn(async () => one) } });
    await controller.reading.changeTrack('t-M1', { role: 'non_target' });
    expect(api.changeTrack).toHaveBeenCalledWith('t-M1', { role: 'non_target', revision: 3 });
  });

  it('link a lesion, and undo it', async () => {
    const { api, store, controller } = await opened({ api: { link: vi.fn(async () => one), undoLink: vi.fn(async () => one) } });
    await controller.reading.link(own.lesions[0]!, 'link', 't-M1');
    expect(api.link).toHaveBeenCalledWith('p1', { study_uid: STUDY, lesion_id: own.lesions[0]!.id, action: 'link', track_id: 't-M1' });
    expect(store.get().undo).toEqual({ kind: 'link', name: 'Lesion 1' });
    await controller.reading.undo();
    expect(api.undoLink).toHaveBeenCalledWith('p1');
    expect(store.get().undo).toBeNull();
  });

  it('forget the course of another patient that comes late', async () => {
    const other = course([visit(9, null)], []);
    const { store, controller } = await opened({ api: { saveReading: vi.fn(async () => other) } });
    await controller.reading.saveReading({ clinical: 'better' });
    expect(store.get().course).toBe(one);
  });
});

describe('signing', () => {
  const assessed = (stale: boolean) =>
    course([{ ...one.visits[0]!, assessment: { category: 'SD', inputs_sha256: 'f00' } as never, signed: { stale } as never }], one.tracks);

  it('names the inputs that were shown, and loads the signature', async () => {
    const { api, controller } = await opened({ course: assessed(false) });
    expect(await controller.reading.sign(null, 'looked at twice')).toBe(true);
    expect(api.sign).toHaveBeenCalledWith(STUDY, { rule_set: 'rano-bm', category: null, comment: 'looked at twice', inputs_sha256: 'f00' });
    expect(api.course).toHaveBeenCalledTimes(2);
  });

  it('says where it did not work', async () => {
    const { store, controller } = await opened({ course: assessed(false), api: { sign: vi.fn(async () => Promise.reject(problem('conflict', 409))) } });
    expect(await controller.reading.sign(null, '')).toBe(false);
    expect(store.get()).toMatchObject({ problem: { code: 'conflict' }, busy: null });
  });
});

describe('a visit that is being aligned', () => {
  it('is asked for again until it is, without holding anything up', async () => {
    const waiting = course([visit(9, '2025-01-01'), visit(1, '2026-01-01', { study_uid: STUDY, result_id: 'r1' })], []);
    const aligned = course([waiting.visits[0]!, { ...waiting.visits[1]!, registration: { accepted: true, quality: 1, reason: '', matrix: [] } }], []);
    const { api, store } = await opened({ course: waiting });
    expect(store.get().shownId).toBe('r1');
    api.course.mockResolvedValue(aligned);
    await settle(4000);
    expect(store.get().course).toBe(aligned);
    const asked = api.course.mock.calls.length;
    await settle(60_000);
    expect(api.course).toHaveBeenCalledTimes(asked);
  });
});

describe('bringing the patient up to date', () => {
  it('says what was queued, follows it and loads the course anew', async () => {
    const { api, viewer, controller } = await opened({
      api: { bringUpToDate: vi.fn(async () => ({ queued: ['j1'], up_to_date: 1, skipped: [] })) },
    });
    const done = controller.reading.bringUpToDate();
    await settle(10_000);
    await done;
    expect(viewer.notify).toHaveBeenCalledWith('info', 'updated', '1');
    expect(api.course.mock.calls.length).toBeGreaterThan(1);
  });
});

describe('exports', () => {
  it('go into the archive or to the reader', async () => {
    const file = { content: new Blob(['x']), name: 'report.pdf' };
    const { api, viewer, controller, save } = await opened({ api: { download: vi.fn(async () => file) } });
    await controller.reading.storeExports(['sr']);
    expect(api.storeExports).toHaveBeenCalledWith('r1', ['sr']);
    expect(viewer.notify).toHaveBeenCalledWith('success', 'stored', '');
    await controller.reading.download('/x.pdf');
    expect(save).toHaveBeenCalledWith(file.content, 'report.pdf');
  });
});

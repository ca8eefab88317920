import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Problem } from '../src/api/problem';
import { descriptionOf, nextName } from '../src/corrections';
import type { Labels } from '../src/ohif/labels';
import { problem, setUp } from './fakes';
import { lesion, result } from './fixtures';

beforeEach(() => {
  vi.stubGlobal('document', Object.assign(new EventTarget(), { visibilityState: 'visible' }));
});
afterEach(() => vi.unstubAllGlobals());

const own = result('r1', { revision: 2 });
const labels: Labels = {
  images: [{ sop_instance_uid: '2.25.5', frame_number: null }],
  rows: 1,
  columns: 3,
  values: Uint8Array.of(1, 0, 3),
  segments: [{ number: 1, name: 'Lesion 1' }, { number: 3, name: '' }],
};
const conflict = () =>
  new Problem({ code: 'edit-conflict', title: '', detail: '', remedy: '', status: 409, facts: { current_result_id: 'theirs' } });

const draft = { voxels: new Map(), names: new Map() };

async function edited(change: Parameters<typeof setUp>[0] = {}) {
  const it = setUp({ results: [own], ...change });
  it.controller.enter();
  await vi.waitFor(() => expect(it.store.get().overlay).toBe('shown'));
  it.editor.draft.mockReturnValue(draft);
  it.editor.drop.mockImplementation(() => it.editor.draft.mockReturnValue(null));
  it.editor.labels.mockReturnValue(labels);
  it.edit();
  expect(it.store.get().unsaved).toBe(true);
  return it;
}

describe('what is sent', () => {
  it('says which segment is which lesion; others are new', () => {
    expect(descriptionOf(own, labels, false)).toEqual({
      revision: 2,
      images: labels.images,
      rows: 1,
      columns: 3,
      segments: [
        { number: 1, lesion_id: own.lesions[0]!.id, name: 'Lesion 1' },
        { number: 3, lesion_id: null, name: 'Metastasis 3' },
      ],
      keep_both: false,
    });
  });

  it('names a new lesion after the last', () => {
    expect(nextName([lesion(1, { name: 'Metastasis 7' }), lesion(2, { name: 'by the tent' })])).toBe('Metastasis 8');
    expect(nextName([])).toBe('Metastasis 1');
  });
});

describe('saving a correction', () => {
  it('sends every voxel, shows the new version and hides the old', async () => {
    const made = result('r2', { origin: 'reader' });
    const { api, viewer, editor, store, controller } = await edited({ api: { correct: vi.fn(async () => made) } });
    await controller.corrections.save();
    const [id, description, packed] = api.correct.mock.lastCall! as [string, object, Blob];
    expect([id, (description as { revision: number }).revision]).toEqual(['r1', 2]);
    expect([...gunzipSync(Buffer.from(await packed.arrayBuffer()))]).toEqual([1, 0, 3]);
    expect(editor.drop).toHaveBeenCalledWith(own);
    expect(viewer.hideResult).toHaveBeenCalledWith(own);
    expect(viewer.freeze.mock.calls).toEqual([[true], [false]]);
    expect(store.get()).toMatchObject({ shownId: 'r2', unsaved: false, busy: null, conflict: null });
  });

  it('leaves the outlines as drawn where it fails', async () => {
    const { viewer, editor, store, controller } = await edited({ api: { correct: vi.fn(async () => Promise.reject(problem('archive-unavailable'))) } });
    await controller.corrections.save();
    expect(editor.drop).not.toHaveBeenCalled();
    expect(viewer.freeze).toHaveBeenLastCalledWith(false);
    expect(store.get()).toMatchObject({ unsaved: true, busy: null, problem: { code: 'archive-unavailable' }, shownId: 'r1' });
  });

  it('offers a choice where somebody else saved first, and loses nothing by either', async () => {
    const theirs = result('theirs', { author: 'bob' });
    const made = result('r3');
    const correct = vi.fn(async () => Promise.reject(conflict()) as never);
    const { api, editor, store, controller } = await edited({ api: { correct, result: vi.fn(async () => theirs) } });
    await controller.corrections.save();
    expect(store.get()).toMatchObject({ conflict: { theirs: { author: 'bob' }, voxels: true }, unsaved: true, problem: null });
    expect(editor.drop).not.toHaveBeenCalled();
    api.correct.mockResolvedValueOnce(made);
    await controller.corrections.keepBoth();
    expect(api.correct.mock.lastCall?.[1]).toMatchObject({ keep_both: true });
    expect(store.get()).toMatchObject({ shownId: 'r3', conflict: null, unsaved: false });
  });

  it('loads the other version where the reader says so', async () => {
    const theirs = result('theirs');
    const { editor, store, controller } = await edited({ api: { correct: vi.fn(async () => Promise.reject(conflict())), result: vi.fn(async () => theirs) } });
    await controller.corrections.save();
    await controller.corrections.takeTheirs();
    expect(editor.drop).toHaveBeenCalledWith(own);
    expect(store.get()).toMatchObject({ shownId: 'theirs', unsaved: false, conflict: null });
  });

  it('says that there is nothing to save before the outlines are there', async () => {
    const { editor, api, store, controller } = await edited();
    editor.labels.mockReturnValue(null);
    await controller.corrections.save();
    expect(api.correct).not.toHaveBeenCalled();
    expect(store.get().problem?.code).toBe('viewer-nothing-to-save');
  });
});

describe('what is not saved', () => {
  it('is noticed, and no longer once it was undone or discarded', async () => {
    const { editor, edit, store, controller } = await edited();
    editor.draft.mockReturnValue(null);
    edit();
    expect(store.get().unsaved).toBe(false);
    editor.draft.mockReturnValue(draft);
    edit();
    controller.corrections.discard();
    expect(editor.drop).toHaveBeenCalledWith(own);
    expect(store.get().unsaved).toBe(false);
  });

  it('is put on the outlines again when the mode is entered anew', async () => {
    const { editor, store, controller } = await edited();
    // The viewer clears its outlines before the mode is told that it is left.
    editor.draft.mockReturnValue(undefined);
    controller.leave();
    expect(editor.forget).toHaveBeenCalled();
    editor.apply.mockImplementation(() => editor.draft.mockReturnValue(draft));
    controller.enter();
    await vi.waitFor(() => expect(store.get().overlay).toBe('shown'));
    expect(editor.apply).toHaveBeenCalledWith(own, draft);
    expect(store.get().unsaved).toBe(true);
  });
});

/** A controller between a made-up server and a made-up viewer. */
import { vi } from 'vitest';
import type { Course } from '../src/api/course';
import { Problem } from '../src/api/problem';
import type { ReaderApi } from '../src/api/reader';
import type { Job, Result } from '../src/api/types';
import { Controller } from '../src/controller';
import type { Draft, Editor } from '../src/ohif/editing';
import type { Viewer } from '../src/ohif/viewer';
import { INITIAL, type State } from '../src/state/state';
import { createStore } from '../src/state/store';
import { job, MODELS, result, SERIES, SESSION, STUDY } from './fixtures';

export const problem = (code: string, status = 500) => new Problem({ code, title: code, detail: '', remedy: '', status });

export function setUp(change: { api?: Partial<ReaderApi>; results?: Result[]; course?: Course | null; active?: Job | null } = {}) {
  const api: { [K in keyof ReaderApi]: ReturnType<typeof vi.fn> } = {
    session: vi.fn(async () => SESSION),
    logOut: vi.fn(async () => undefined),
    series: vi.fn(async () => SERIES),
    models: vi.fn(async () => MODELS),
    start: vi.fn(async () => job({ state: 'queued', step: 'waiting', progress: 0 })),
    job: vi.fn(async () => job({ state: 'succeeded', result_id: 'new' })),
    activeJob: vi.fn(async () => change.active ?? null),
    cancel: vi.fn(async () => job({ cancel_requested: true })),
    opened: vi.fn(async () => undefined),
    results: vi.fn(async () => change.results ?? []),
    result: vi.fn(async () => result('new')),
    course: vi.fn(async () => change.course ?? null),
    saveReading: vi.fn(),
    changeTrack: vi.fn(),
    readTrack: vi.fn(),
    link: vi.fn(),
    undoLink: vi.fn(),
    sign: vi.fn(async () => undefined),
    bringUpToDate: vi.fn(),
    review: vi.fn(),
    restore: vi.fn(),
    correct: vi.fn(),
    storeExports: vi.fn(async () => undefined),
    download: vi.fn(),
    ...(change.api as object),
  };
  let study: string | null = STUDY;
  let changed = () => {};
  let edited = () => {};
  const back = vi.fn();
  const editor: { [K in keyof Editor]: ReturnType<typeof vi.fn> } = {
    onEdited: vi.fn((listener: () => void) => {
      edited = listener;
      return () => {};
    }),
    remember: vi.fn(),
    labels: vi.fn(() => null),
    draft: vi.fn((): Draft | null => null),
    apply: vi.fn(),
    drop: vi.fn(),
    begin: vi.fn(async () => undefined),
    use: vi.fn(),
    size: vi.fn(),
    forget: vi.fn(),
  };
  const viewer: { [K in keyof Omit<Viewer, 'editor'>]: ReturnType<typeof vi.fn> } & { editor: typeof editor } = {
    editor,
    studyUid: vi.fn(() => study),
    askedLesionId: vi.fn(() => null),
    onChange: vi.fn((listener: () => void) => {
      changed = listener;
      return () => {};
    }),
    showSeries: vi.fn(async () => undefined),
    showResult: vi.fn(async () => undefined),
    hideResult: vi.fn(),
    keepView: vi.fn(() => back),
    goTo: vi.fn(async () => undefined),
    showDiameters: vi.fn(async () => undefined),
    hideDiameters: vi.fn(),
    paint: vi.fn(),
    goToPoint: vi.fn(async () => undefined),
    compare: vi.fn(async () => undefined),
    endCompare: vi.fn(),
    leaveCompare: vi.fn(),
    beginLesion: vi.fn(async () => undefined),
    openFollowUp: vi.fn(),
    openPanel: vi.fn(),
    openTools: vi.fn(),
    freeze: vi.fn(),
    guard: vi.fn(() => () => {}),
    notify: vi.fn(),
  };
  const save = vi.fn();

  const store = createStore<State>(INITIAL);
  const controller = new Controller(api as unknown as ReaderApi, viewer as unknown as Viewer, store, {
    ready: (lesions) => ({ title: 'ready', message: `${lesions}` }),
    failed: (failure) => ({ title: 'failed', message: failure.code }),
    updated: ({ queued }) => ({ title: 'updated', message: `${queued.length}` }),
    stored: () => ({ title: 'stored', message: '' }),
    leave: () => 'leave?',
  }, save);
  const open = (uid: string | null) => {
    study = uid;
    changed();
  };
  return { api, viewer, editor, store, controller, open, save, back, edit: () => edited() };
}

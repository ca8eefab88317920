/**
 * Edited outlines on their way to a new version.
 *
 * What was drawn is never dropped by itself: it survives leaving the mode and coming back,
 * a failed save leaves it on the images, and where somebody else saved first, the reader
 * chooses between keeping it as a version of its own and loading the other one.
 */
import { localProblem, Problem } from './api/problem';
import type { ReaderApi } from './api/reader';
import type { Lesion, Result } from './api/types';
import type { Draft, Tool } from './ohif/editing';
import { compressed, type Labels } from './ohif/labels';
import type { Viewer } from './ohif/viewer';
import { theirVersion, type Surroundings } from './reading';
import { shownResult, type State } from './state/state';
import type { Store } from './state/store';

export class Corrections {
  /**
   * What was drawn and not saved, by the id of the result. Kept after every change: when
   * the mode is left, the viewer has cleared its outlines before anyone is told.
   */
  private readonly drafts = new Map<string, Draft>();
  private stops: (() => void)[] = [];

  constructor(
    private readonly api: ReaderApi,
    private readonly viewer: Viewer,
    private readonly store: Store<State>,
    private readonly around: Surroundings,
  ) {}

  enter(): void {
    this.stops = [
      this.viewer.editor.onEdited(() => this.look()),
      this.viewer.guard(
        () => this.store.get().unsaved,
        () => this.around.mayLeave(),
      ),
    ];
  }

  leave(): void {
    this.stops.forEach((stop) => stop());
    this.stops = [];
    this.viewer.editor.forget();
  }

  /** The outlines of a result have been drawn: put on them what was drawn before. */
  drawn(result: Result): void {
    const draft = this.drafts.get(result.id);
    if (draft) this.viewer.editor.apply(result, draft);
    this.look();
  }

  use(tool: Tool): void {
    this.viewer.editor.use(tool);
  }

  size(radius_mm: number): void {
    this.viewer.editor.size(radius_mm);
  }

  /** Begin a lesion that was missed. */
  async begin(): Promise<void> {
    const result = shownResult(this.store.get());
    if (!result) return;
    try {
      await this.viewer.beginLesion(result, nextName(result.lesions));
    } catch (error) {
      this.around.fail(error);
    }
  }

  discard(): void {
    const result = shownResult(this.store.get());
    if (result) this.drop(result);
    this.store.set({ unsaved: false, conflict: null });
  }

  save(): Promise<void> {
    return this.send(false);
  }

  /** Save beside what somebody else has saved meanwhile. */
  keepBoth(): Promise<void> {
    return this.send(true);
  }

  /** Drop what was drawn, and load what somebody else has saved. */
  async takeTheirs(): Promise<void> {
    const theirs = this.store.get().conflict?.theirs;
    this.discard();
    try {
      if (theirs) await this.around.adopt(theirs);
    } catch (error) {
      this.around.fail(error);
    }
  }

  private async send(keepBoth: boolean): Promise<void> {
    const result = shownResult(this.store.get());
    if (!result || this.store.get().busy) return;
    const signal = this.around.signal();
    this.store.set({ busy: 'save', problem: null, conflict: null });
    // What is drawn while it is being sent would be neither saved nor kept.
    this.viewer.freeze(true);
    try {
      const labels = this.viewer.editor.labels(result);
      if (!labels) throw localProblem('viewer-nothing-to-save');
      const description = descriptionOf(result, labels, keepBoth);
      const made = await this.api.correct(result.id, description, await compressed(labels.values));
      this.drop(result);
      if (signal.aborted) return;
      this.store.set({ unsaved: false });
      await this.around.adopt(made);
    } catch (error) {
      if (!signal.aborted) await this.told(error, signal);
    } finally {
      this.viewer.freeze(false);
      if (!signal.aborted) this.store.set({ busy: null });
    }
  }

  private async told(error: unknown, signal: AbortSignal): Promise<void> {
    if (!(error instanceof Problem) || error.code !== 'edit-conflict') return this.around.fail(error);
    try {
      const theirs = await theirVersion(this.api, error);
      if (!signal.aborted) this.store.set({ conflict: { theirs, voxels: true } });
    } catch (second) {
      if (!signal.aborted) this.around.fail(second);
    }
  }

  private drop(result: Result): void {
    this.drafts.delete(result.id);
    this.viewer.editor.drop(result);
  }

  private look(): void {
    const { overlay } = this.store.get();
    const result = shownResult(this.store.get());
    // While outlines are loaded or cleared, what is seen is not what the reader has drawn.
    if (!result || overlay === 'loading') return;
    const draft = this.viewer.editor.draft(result);
    if (draft) this.drafts.set(result.id, draft);
    else if (draft === null) this.drafts.delete(result.id);
    const unsaved = Boolean(draft);
    if (unsaved !== this.store.get().unsaved) this.store.set({ unsaved });
  }
}

/** Which segment is which lesion; a segment of no lesion is a new one. */
export function descriptionOf(result: Result, labels: Labels, keepBoth: boolean): object {
  const lesions = new Map(result.lesions.map((lesion) => [lesion.segment_number, lesion]));
  return {
    revision: result.revision,
    images: labels.images,
    rows: labels.rows,
    columns: labels.columns,
    segments: labels.segments.map(({ number, name }) => {
      const lesion = lesions.get(number);
      return { number, lesion_id: lesion?.id ?? null, name: name.trim() || lesion?.name || nextName(result.lesions) };
    }),
    keep_both: keepBoth,
  };
}

/** "Metastasis 4" where the highest number in any name is 3. */
export function nextName(lesions: readonly Lesion[]): string {
  const numbers = lesions.map(({ name }) => Number(/(\d+)\s*$/.exec(name)?.[1] ?? 0));
  return `Metastasis ${Math.max(lesions.length, ...numbers) + 1}`;
}

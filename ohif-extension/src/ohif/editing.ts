/**
 * Drawing on a result with the viewer's own tools, and taking what was drawn.
 *
 * The stored outlines are kept beside the drawn ones, so that a change is noticed (and a
 * change that was undone is none), can be dropped, and survives leaving the mode.
 */
import { localProblem } from '../api/problem';
import type { Result } from '../api/types';
import type { Cornerstone, CornerstoneTools, DisplaySet, Host, Services } from './host';
import { labelsOf, putBack, referenceOf, sameVoxels, snapshotOf, type LabelImage, type Labels, type Snapshot } from './labels';

export type Tool = 'brush' | 'sphere' | 'eraser' | 'none';

/** What was drawn and not saved. */
export interface Draft {
  voxels: Snapshot;
  names: ReadonlyMap<number, string>;
}

const TOOLS: Record<Tool, string> = {
  brush: 'CircularBrush',
  sphere: 'SphereBrush',
  eraser: 'CircularEraser',
  none: 'WindowLevel',
};
const SETTLED_MS = 250;

export class LabelEditor {
  private readonly services: Services;
  private readonly stored = new Map<string, Draft>();
  /** Segmentations a reader began on a result that has none, by the id of the result. */
  private readonly begun = new Map<string, string>();

  constructor(
    private readonly host: Host,
    private readonly displaySet: (result: Result) => DisplaySet | null,
  ) {
    this.services = host.servicesManager.services;
  }

  /** Called (a moment) after voxels or names may have changed; gives the way to stop. */
  onEdited(listener: () => void): () => void {
    const service = this.services.segmentationService;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const soon = () => {
      clearTimeout(timer);
      timer = setTimeout(listener, SETTLED_MS);
    };
    const subscriptions = [
      service.subscribe(service.EVENTS.SEGMENTATION_DATA_MODIFIED, soon),
      service.subscribe(service.EVENTS.SEGMENTATION_MODIFIED, soon),
    ];
    return () => {
      clearTimeout(timer);
      subscriptions.forEach((subscription) => subscription.unsubscribe());
    };
  }

  /** Remember the outlines as stored; a second call for the same ones does nothing. */
  remember(result: Result): void {
    const id = this.idOf(result);
    if (id && !this.stored.has(id)) this.stored.set(id, this.now(id));
  }

  labels(result: Result): Labels | null {
    const id = this.idOf(result);
    return id ? labelsOf(this.images(id), this.names(id), imageReference) : null;
  }

  /**
   * What was drawn and is not stored, to be put on again later.
   *
   * Null: nothing was. Undefined: the outlines are not there, so nobody can say.
   */
  draft(result: Result): Draft | null | undefined {
    const id = this.idOf(result);
    const stored = id && this.stored.get(id);
    if (!id || !stored) return undefined;
    const names = this.names(id);
    const renamed = [...names].some(([number, name]) => stored.names.has(number) && stored.names.get(number) !== name);
    return renamed || !sameVoxels(stored.voxels, this.images(id)) ? this.now(id) : null;
  }

  /** Put a draft on the outlines. */
  apply(result: Result, draft: Draft): void {
    const id = this.idOf(result);
    if (!id) return;
    for (const [number, name] of draft.names) {
      if (this.names(id).has(number)) this.services.segmentationService.setSegmentLabel(id, number, name);
      else this.services.segmentationService.addSegment(id, { segmentIndex: number, label: name });
    }
    this.write(id, draft.voxels);
  }

  /** Give the outlines the voxels and names they have in the archive. */
  drop(result: Result): void {
    const id = this.idOf(result);
    const stored = id && this.stored.get(id);
    if (!id || !stored) return;
    for (const number of this.names(id).keys()) {
      const name = stored.names.get(number);
      if (name === undefined) this.services.segmentationService.removeSegment(id, number, { skipRecordingHistory: true });
      else this.services.segmentationService.setSegmentLabel(id, number, name);
    }
    this.write(id, stored.voxels);
    if (this.begun.delete(result.id)) {
      this.stored.delete(id);
      this.services.segmentationService.remove(id);
    }
  }

  /** Begin a lesion that was missed, and take the brush. */
  async begin(result: Result, viewportId: string, name: string): Promise<void> {
    const service = this.services.segmentationService;
    const id = this.idOf(result);
    if (id) {
      service.addSegment(id, { label: name });
    } else {
      const made = await this.host.commandsManager.run('createLabelmapForViewport', {
        viewportId,
        options: { label: name, createInitialSegment: true },
      });
      if (typeof made !== 'string') throw localProblem('viewer-overlay-failed');
      this.begun.set(result.id, made);
      service.setSegmentLabel(made, 1, name);
      service.setActiveSegment(made, 1);
      this.remember(result);
    }
    this.use('brush');
  }

  use(tool: Tool): void {
    this.host.commandsManager.run('setToolActiveToolbar', { toolName: TOOLS[tool] });
  }

  /** @param radius_mm of the brush and the eraser */
  size(radius_mm: number): void {
    this.host.commandsManager.run('setBrushSize', { value: radius_mm });
  }

  forget(): void {
    this.stored.clear();
    this.begun.clear();
  }

  private idOf(result: Result): string | null {
    const id = result.segmentation ? this.displaySet(result)?.displaySetInstanceUID : this.begun.get(result.id);
    return id && this.services.segmentationService.getSegmentation(id) ? id : null;
  }

  private now(id: string): Draft {
    return { voxels: snapshotOf(this.images(id)), names: this.names(id) };
  }

  private write(id: string, voxels: Snapshot): void {
    putBack(voxels, this.images(id));
    tools().segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(id);
  }

  private images(id: string): LabelImage[] {
    const labelmap = tools().segmentation.state.getSegmentation(id)?.representationData.Labelmap;
    return (labelmap?.imageIds ?? []).map((imageId) => {
      const image = cornerstone().cache.getImage(imageId);
      if (!image) throw localProblem('viewer-overlay-failed', 'a label image is not in memory any more');
      return image;
    });
  }

  private names(id: string): Map<number, string> {
    const segments = tools().segmentation.state.getSegmentation(id)?.segments ?? {};
    return new Map(Object.values(segments).map((segment) => [segment.segmentIndex, segment.label]));
  }
}

/** What the rest of the panel may do with the outlines. */
export type Editor = Pick<LabelEditor, keyof LabelEditor>;

function imageReference(imageId: string) {
  return referenceOf(imageId, cornerstone().metaData.get('instance', imageId)?.NumberOfFrames ?? 1);
}

function tools(): CornerstoneTools {
  if (!window.cornerstoneTools) throw localProblem('internal', 'the viewer offers no segmentation tools');
  return window.cornerstoneTools;
}

function cornerstone(): Cornerstone {
  if (!window.cornerstone) throw localProblem('internal', 'the viewer offers no image cache');
  return window.cornerstone;
}

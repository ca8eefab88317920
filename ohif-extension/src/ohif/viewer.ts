/**
 * What the panel asks of the viewer, in the panel's own terms.
 *
 * Everything that depends on how OHIF 3.13 works is in this folder. Methods that draw
 * wait until the viewer has drawn, and throw a `Problem` where it does not.
 */
import { localProblem } from '../api/problem';
import type { Lesion, Result } from '../api/types';
import { studyFollowup } from '../followup/places';
import { LESION_PARAMETER, PANEL_ID, SEGMENTATION_PANEL_ID } from '../id';
import { CURRENT_VIEWPORT, PRIOR_VIEWPORT, SideBySide } from './compare';
import { hideDiameters, showDiameters } from './diameters';
import { LabelEditor, type Editor } from './editing';
import type { Camera, CornerstoneTools, CornerstoneViewport, DisplaySet, Host, Services } from './host';
import { imageIndexOf } from './images';
import { guardLeaving } from './leaving';

export interface Viewer {
  /** The study of the active viewport, else the first image study that is open. */
  studyUid(): string | null;
  /** The lesion the address asks for, if it names one. */
  askedLesionId(): string | null;
  /** Called whenever `studyUid` may have changed; gives the way to stop. */
  onChange(listener: () => void): () => void;
  /** Bring a series on screen, in the active viewport unless another shows it already. */
  showSeries(seriesUid: string): Promise<void>;
  showResult(result: Result): Promise<void>;
  /** Remember where the reader looks in a series; gives the way back there. */
  keepView(seriesUid: string): () => void;
  hideResult(result: Result): void;
  goTo(result: Result, lesion: Lesion): Promise<void>;
  showDiameters(result: Result): Promise<void>;
  hideDiameters(): void;
  /** Draw the segments of a result in the given colours, by segment number. */
  paint(result: Result, colours: ReadonlyMap<number, readonly number[]>): void;
  /** Go to a point of the patient (LPS, mm) on the series of a result. */
  goToPoint(result: Result, point: readonly number[]): Promise<void>;
  /** Show two visits side by side with their outlines; `matrix` as in `SideBySide.link`. */
  compare(prior: Result, current: Result, matrix: number[][] | null): Promise<void>;
  endCompare(): void;
  /** Another study was opened over the comparison: forget it, and leave the layout. */
  leaveCompare(): void;
  /** Begin a lesion that the result lacks. */
  beginLesion(result: Result, name: string): Promise<void>;
  readonly editor: Editor;
  openPanel(): void;
  openTools(): void;
  /** Leave for the follow-up page of the patient of a study. */
  openFollowUp(studyUid: string): void;
  /** As `guardLeaving`. */
  guard(unsaved: () => boolean, ask: () => boolean): () => void;
  /** Keep the images from being drawn on, or let them be drawn on again. */
  freeze(on: boolean): void;
  notify(type: 'success' | 'error' | 'info', title: string, message: string): void;
}

const WAIT_MS = 30_000;
const STEP_MS = 100;
const RENDERED = 'rendered';

async function until<T>(look: () => T | null | undefined | false, wait_ms = WAIT_MS): Promise<T | null> {
  const end = Date.now() + wait_ms;
  for (;;) {
    const found = look();
    if (found) return found;
    if (Date.now() > end) return null;
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
  }
}

export class OhifViewer implements Viewer {
  private readonly services: Services;
  private diameterUids: string[] = [];
  readonly editor: LabelEditor;
  private readonly beside: SideBySide;

  constructor(private readonly host: Host) {
    this.services = host.servicesManager.services;
    this.editor = new LabelEditor(host, (result) => this.segDisplaySet(result));
    this.beside = new SideBySide(host, (id) => this.viewport(id));
  }

  askedLesionId(): string | null {
    return new URLSearchParams(window.location.search).get(LESION_PARAMETER);
  }

  studyUid(): string | null {
    const open = this.activeStudyUid();
    const pair = this.beside.shown;
    // Whoever looks at the prior visit still reads the current one.
    return pair && open === pair.prior.studyUid ? pair.current.studyUid : open;
  }

  private activeStudyUid(): string | null {
    const { activeViewportId, viewports } = this.services.viewportGridService.getState();
    const uids = (activeViewportId && viewports?.get(activeViewportId)?.displaySetInstanceUIDs) || [];
    for (const uid of uids) {
      const study = this.services.displaySetService.getDisplaySetByUID(uid)?.StudyInstanceUID;
      if (study) return study;
    }
    return this.services.displaySetService.getActiveDisplaySets()[0]?.StudyInstanceUID ?? null;
  }

  onChange(listener: () => void): () => void {
    const { displaySetService: sets, viewportGridService: grid } = this.services;
    const subscriptions = [
      sets.subscribe(sets.EVENTS.DISPLAY_SETS_ADDED, listener),
      grid.subscribe(grid.EVENTS.ACTIVE_VIEWPORT_ID_CHANGED, listener),
      grid.subscribe(grid.EVENTS.GRID_STATE_CHANGED, listener),
    ];
    return () => subscriptions.forEach((subscription) => subscription.unsubscribe());
  }

  async showSeries(seriesUid: string): Promise<void> {
    await this.viewportOf(seriesUid);
  }

  async showResult(result: Result): Promise<void> {
    if (!result.segmentation) return;
    const seg = await this.segmentationOf(result);
    const { viewportId, images } = await this.viewportOf(result.series_uid);
    // A version refers to its images and to the version before; OHIF takes whichever of
    // the two it read first for the images, and would draw the outlines on nothing.
    seg.referencedDisplaySetInstanceUID = images.displaySetInstanceUID;
    const query = { segmentationId: seg.displaySetInstanceUID };
    const present = () => this.services.segmentationService.getSegmentationRepresentations(viewportId, query).length > 0;
    if (!present()) {
      this.host.commandsManager.run('addDisplaySetAsLayer', {
        viewportId,
        displaySetInstanceUID: seg.displaySetInstanceUID,
      });
    }
    if (!(await until(present))) throw localProblem('viewer-overlay-failed');
    this.editor.remember(result);
  }

  keepView(seriesUid: string): () => void {
    const images = this.displaySet(seriesUid);
    const { viewports } = this.services.viewportGridService.getState();
    const shown = [...(viewports ?? [])].filter(
      ([, { displaySetInstanceUIDs }]) => images && displaySetInstanceUIDs?.includes(images.displaySetInstanceUID),
    );
    const views = shown.map(([id]) => {
      const viewport = this.viewport(id);
      return { id, imageId: viewport?.getCurrentImageId?.(), camera: viewport?.getCamera() };
    });
    return () => views.forEach((view) => this.putView(view));
  }

  private putView({ id, imageId, camera }: { id: string; imageId?: string | undefined; camera?: Camera | undefined }): void {
    const viewport = this.viewport(id);
    if (!viewport) return;
    if (viewport.type !== 'stack') {
      if (camera) viewport.setCamera?.(camera);
      viewport.render();
      return;
    }
    const imageIndex = imageId ? (viewport.getImageIds?.() ?? []).indexOf(imageId) : -1;
    if (imageIndex >= 0) this.host.commandsManager.run('jumpToImage', { imageIndex, viewport });
  }

  hideResult(result: Result): void {
    const seg = this.segDisplaySet(result);
    if (!seg) return;
    for (const viewportId of this.services.viewportGridService.getState().viewports.keys()) {
      this.host.commandsManager.run('removeDisplaySetLayer', {
        viewportId,
        displaySetInstanceUID: seg.displaySetInstanceUID,
      });
    }
  }

  async goTo(result: Result, lesion: Lesion): Promise<void> {
    const { viewportId, images } = await this.viewportOf(result.series_uid);
    const viewport = this.viewport(viewportId);
    if (!viewport) throw localProblem('viewer-images-missing');
    this.services.viewportGridService.setActiveViewportId(viewportId);
    if (viewport.type === 'stack') this.goToImage(viewport, images, lesion);
    else this.crossAt(images, middle(lesion));
    this.activate(result, lesion);
  }

  /** Make the segment of a lesion the one that is drawn on, where it is there yet. */
  private activate(result: Result, lesion: Lesion): void {
    const seg = this.segDisplaySet(result);
    if (seg && this.services.segmentationService.getSegmentation(seg.displaySetInstanceUID)) {
      this.services.segmentationService.setActiveSegment(seg.displaySetInstanceUID, lesion.segment_number);
    }
  }

  async showDiameters(result: Result): Promise<void> {
    this.hideDiameters();
    const { viewportId, images } = await this.viewportOf(result.series_uid);
    const viewport = this.viewport(viewportId);
    if (!viewport) throw localProblem('viewer-images-missing');
    this.diameterUids = showDiameters(tools(), viewport, images.imageIds ?? [], result.lesions);
  }

  hideDiameters(): void {
    if (this.diameterUids.length === 0) return;
    hideDiameters(tools(), this.diameterUids);
    this.diameterUids = [];
    for (const id of this.services.viewportGridService.getState().viewports.keys()) {
      this.viewport(id)?.render();
    }
  }

  paint(result: Result, colours: ReadonlyMap<number, readonly number[]>): void {
    const seg = this.segDisplaySet(result);
    if (!seg) return;
    const service = this.services.segmentationService;
    const segmentationId = seg.displaySetInstanceUID;
    for (const viewportId of this.services.viewportGridService.getState().viewports.keys()) {
      if (service.getSegmentationRepresentations(viewportId, { segmentationId }).length === 0) continue;
      for (const [number, colour] of colours) {
        service.setSegmentColor(viewportId, segmentationId, number, [...colour, 255]);
      }
    }
  }

  async goToPoint(result: Result, point: readonly number[]): Promise<void> {
    const { viewportId, images } = await this.viewportOf(result.series_uid);
    const viewport = this.viewport(viewportId);
    if (viewport?.type !== 'stack') return this.crossAt(images, [...point]);
    viewport.jumpToWorld?.([...point]);
    viewport.render();
  }

  async compare(prior: Result, current: Result, matrix: number[][] | null): Promise<void> {
    await this.beside.read(prior.study_uid);
    const { viewportId } = await this.viewportOf(current.series_uid);
    if (!(await until(() => this.displaySet(prior.series_uid)))) throw localProblem('viewer-images-missing');
    const side = ({ study_uid, series_uid }: Result) => ({ studyUid: study_uid, seriesUid: series_uid });
    this.beside.hang(side(prior), side(current), this.viewport(viewportId)?.getCamera().viewPlaneNormal);
    const both = [PRIOR_VIEWPORT, CURRENT_VIEWPORT];
    if (!(await until(() => both.every((id) => hasDrawn(this.viewport(id)))))) {
      throw localProblem('viewer-compare-failed');
    }
    this.services.viewportGridService.setActiveViewportId(CURRENT_VIEWPORT);
    await this.showResult(prior);
    await this.showResult(current);
    if (matrix) this.beside.link(matrix);
  }

  endCompare(): void {
    this.beside.end();
  }

  leaveCompare(): void {
    this.beside.forget();
  }

  async beginLesion(result: Result, name: string): Promise<void> {
    const { viewportId } = await this.viewportOf(result.series_uid);
    const seg = this.segDisplaySet(result);
    if (seg) this.services.segmentationService.setActiveSegmentation(viewportId, seg.displaySetInstanceUID);
    await this.editor.begin(result, viewportId, name);
  }

  openFollowUp(studyUid: string): void {
    this.host.commandsManager.run('navigateHistory', { to: studyFollowup(studyUid) });
  }

  openPanel(): void {
    this.services.panelService.activatePanel(PANEL_ID, true);
  }

  openTools(): void {
    this.services.panelService.activatePanel(SEGMENTATION_PANEL_ID, true);
  }

  readonly guard = guardLeaving;

  freeze(on: boolean): void {
    document.body.classList.toggle('metia-frozen', on);
  }

  notify(type: 'success' | 'error' | 'info', title: string, message: string): void {
    this.services.uiNotificationService.show({ title, message, type, duration: 6000 });
  }

  private viewport(id: string): CornerstoneViewport | null {
    return this.services.cornerstoneViewportService.getCornerstoneViewport(id) ?? null;
  }

  private displaySet(seriesUid: string): DisplaySet | null {
    const sets = this.services.displaySetService.getDisplaySetsForSeries(seriesUid) ?? [];
    return [...sets].sort((a, b) => (b.imageIds?.length ?? 0) - (a.imageIds?.length ?? 0))[0] ?? null;
  }

  private segDisplaySet({ segmentation }: Result): DisplaySet | null {
    if (!segmentation) return null;
    const sets = this.services.displaySetService.getDisplaySetsForSeries(segmentation.series_uid) ?? [];
    // Versions may share a series; where the viewer does not name the instance, the series has to do.
    return sets.find((set) => (set.SOPInstanceUID ?? segmentation.sop_instance_uid) === segmentation.sop_instance_uid) ?? null;
  }

  /** The display set of the result's SEG; fetched from the archive where it is new. */
  private async segmentationOf(result: Result): Promise<DisplaySet> {
    const seriesUid = result.segmentation?.series_uid ?? '';
    if (!this.segDisplaySet(result)) await this.fetchSeries(result.study_uid, seriesUid);
    const seg = await until(() => this.segDisplaySet(result), 10_000);
    if (!seg) throw localProblem('viewer-overlay-failed');
    return seg;
  }

  /**
   * Make the viewer read one more series of a study it has already read.
   *
   * OHIF 3.13.2 keeps study metadata under "<source>:<uid>" but drops it by the key it is
   * given, so both forms are dropped; and once more afterwards, because the answer to a
   * filtered question must not stay as the answer for the whole study.
   */
  private async fetchSeries(studyUid: string, seriesUid: string): Promise<void> {
    const source = this.host.extensionManager.getActiveDataSource()[0];
    if (!source) throw localProblem('viewer-overlay-failed');
    const drop = () => {
      source.deleteStudyMetadataPromise(`${source.getConfig().name}:${studyUid}`);
      source.deleteStudyMetadataPromise(studyUid);
    };
    drop();
    await source.retrieve.series.metadata({
      StudyInstanceUID: studyUid,
      filters: { seriesInstanceUID: [seriesUid] },
    });
    drop();
  }

  /** A viewport that shows the series: one that does already, else the active one. */
  private async viewportOf(seriesUid: string): Promise<{ viewportId: string; images: DisplaySet }> {
    const images = await until(() => this.displaySet(seriesUid));
    if (!images) throw localProblem('viewer-images-missing');
    const grid = this.services.viewportGridService;
    // A viewport that is given other images before it has drawn its first keeps a wrong zoom.
    const active = await until(() => {
      const id = grid.getState().activeViewportId;
      return id && hasDrawn(this.viewport(id)) ? id : null;
    });
    if (!active) throw localProblem('viewer-images-missing');
    const shows = (id: string) =>
      grid.getState().viewports.get(id)?.displaySetInstanceUIDs?.includes(images.displaySetInstanceUID);
    const others = [...grid.getState().viewports.keys()];
    let viewportId = [active, ...others].find(shows);
    if (!viewportId) {
      viewportId = active;
      this.host.commandsManager.run('setDisplaySetsForViewports', {
        viewportsToUpdate: this.services.hangingProtocolService.getViewportsRequireUpdate(
          viewportId,
          images.displaySetInstanceUID,
        ),
      });
    }
    const id = viewportId;
    if (!(await until(() => this.drawn(id, images)))) throw localProblem('viewer-images-missing');
    return { viewportId, images };
  }

  private drawn(viewportId: string, images: DisplaySet): boolean {
    const viewport = this.viewport(viewportId);
    if (!viewport || !hasDrawn(viewport)) return false;
    if (viewport.type !== 'stack') return true;
    const current = viewport.getCurrentImageId?.();
    return Boolean(current && images.imageIds?.includes(current));
  }

  /** Reformatted views: every plane of the volume goes through the point. */
  private crossAt(images: DisplaySet, point: number[]): void {
    for (const [id, { displaySetInstanceUIDs }] of this.services.viewportGridService.getState().viewports) {
      if (!displaySetInstanceUIDs.includes(images.displaySetInstanceUID)) continue;
      const viewport = this.viewport(id);
      viewport?.jumpToWorld?.(point);
      viewport?.render();
    }
  }

  private goToImage(viewport: CornerstoneViewport, images: DisplaySet, lesion: Lesion): void {
    const imageIds = viewport.getImageIds?.() ?? images.imageIds ?? [];
    const imageIndex = imageIndexOf(imageIds, lesion.sop_instance_uid, lesion.frame_number);
    if (imageIndex < 0) throw localProblem('viewer-images-missing');
    this.host.commandsManager.run('jumpToImage', { imageIndex, viewport });
  }
}

function hasDrawn(viewport: CornerstoneViewport | null): boolean {
  return viewport?.viewportStatus === RENDERED && Boolean(viewport.getImageData?.());
}

function middle(lesion: Lesion): number[] {
  const [start = lesion.centroid_mm, end = start] = lesion.long_axis_mm;
  return start.map((value, axis) => (value + (end[axis] ?? value)) / 2);
}

function tools(): CornerstoneTools {
  if (!window.cornerstoneTools) throw localProblem('internal', 'the viewer offers no annotation tools');
  return window.cornerstoneTools;
}

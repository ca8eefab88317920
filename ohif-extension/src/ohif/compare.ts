/**
 * The visit before beside this one: two views of the same place in the patient.
 *
 * Both series are shown as volumes. Whenever one camera moves (scroll, pan, zoom, jump),
 * the other is put at the same place by the rigid matrix of the registration, so the
 * planes agree even where the head lay otherwise. Without a matrix they move apart.
 */
import { localProblem } from '../api/problem';
import { inverseRigid, movePoint, turnDirection } from '../state/comparison';
import type { Camera, CornerstoneViewport, DisplaySet, Host, Services } from './host';

export const COMPARE_PROTOCOL = '@metia/compare';
export const PRIOR_VIEWPORT = 'metia-prior';
export const CURRENT_VIEWPORT = 'metia-current';

const CAMERA_MODIFIED = 'CORNERSTONE_CAMERA_MODIFIED';
/** Cosine between the slices' normal and the axis of the body from which slices are taken as axial. */
const NEARLY_AXIAL = 0.8;

export interface Side {
  studyUid: string;
  seriesUid: string;
}

/** Rows of two viewports, the prior left; each is found by its series alone. */
export function compareProtocol(prior: Side, current: Side, orientation: 'acquisition' | 'axial'): object {
  const viewport = (viewportId: string, id: string) => ({
    viewportOptions: { viewportId, viewportType: 'volume', orientation, toolGroupId: 'default' },
    displaySets: [{ id }],
  });
  const selector = ({ seriesUid }: Side) => ({
    seriesMatchingRules: [
      { attribute: 'SeriesInstanceUID', required: true, weight: 10, constraint: { equals: { value: seriesUid } } },
    ],
  });
  return {
    id: COMPARE_PROTOCOL,
    name: 'Compare visits',
    protocolMatchingRules: [],
    numberOfPriorsReferenced: 1,
    toolGroupIds: ['default'],
    displaySetSelectors: { prior: selector(prior), current: selector(current) },
    stages: [
      {
        name: 'Two visits',
        viewportStructure: { layoutType: 'grid', properties: { rows: 1, columns: 2 } },
        viewports: [viewport(PRIOR_VIEWPORT, 'prior'), viewport(CURRENT_VIEWPORT, 'current')],
      },
    ],
  };
}

/** The same view of the same place after a rigid movement. */
export function movedCamera(camera: Camera, matrix: number[][]): Camera {
  const moved: Camera = {};
  if (camera.position) moved.position = movePoint(matrix, camera.position);
  if (camera.focalPoint) moved.focalPoint = movePoint(matrix, camera.focalPoint);
  if (camera.viewUp) moved.viewUp = turnDirection(matrix, camera.viewUp);
  if (camera.viewPlaneNormal) moved.viewPlaneNormal = turnDirection(matrix, camera.viewPlaneNormal);
  if (camera.parallelScale !== undefined) moved.parallelScale = camera.parallelScale;
  return moved;
}

export class SideBySide {
  private readonly services: Services;
  private before: string | null = null;
  private unlink: (() => void) | null = null;
  private moving = false;
  /** The studies on screen while two visits are compared. */
  private pair: { prior: Side; current: Side } | null = null;

  constructor(
    private readonly host: Host,
    private readonly viewport: (id: string) => CornerstoneViewport | null,
  ) {
    this.services = host.servicesManager.services;
  }

  get shown(): { prior: Side; current: Side } | null {
    return this.pair;
  }

  /** Read a study that the viewer has not opened yet. */
  async read(studyUid: string): Promise<void> {
    const open = this.services.displaySetService.getActiveDisplaySets();
    if (open.some((set) => set.StudyInstanceUID === studyUid)) return;
    const source = this.host.extensionManager.getActiveDataSource()[0];
    if (!source) throw localProblem('viewer-compare-failed');
    await source.retrieve.series.metadata({ StudyInstanceUID: studyUid });
  }

  /** Lay the two series out; `normal` is that of the current series' slices, in the patient. */
  hang(prior: Side, current: Side, normal: readonly number[] | undefined): void {
    const hanging = this.services.hangingProtocolService;
    if (!this.pair) this.before = hanging.getState().protocolId;
    this.pair = { prior, current };
    const orientation = Math.abs(normal?.[2] ?? 0) > NEARLY_AXIAL ? 'acquisition' : 'axial';
    hanging.addProtocol(COMPARE_PROTOCOL, compareProtocol(prior, current, orientation));
    for (const { studyUid } of [current, prior]) hanging.addStudy({ StudyInstanceUID: studyUid });
    this.run(COMPARE_PROTOCOL, current.studyUid);
  }

  /** Let the views follow each other; `matrix` takes a point of the current visit to the prior one. */
  link(matrix: number[][]): void {
    this.unlink?.();
    const stops = [
      this.follow(CURRENT_VIEWPORT, PRIOR_VIEWPORT, matrix),
      this.follow(PRIOR_VIEWPORT, CURRENT_VIEWPORT, inverseRigid(matrix)),
    ];
    this.unlink = () => stops.forEach((stop) => stop());
    this.place(CURRENT_VIEWPORT, PRIOR_VIEWPORT, matrix);
  }

  /** Move the view `to` whenever `from` moves; gives the way to stop. */
  private follow(from: string, to: string, matrix: number[][]): () => void {
    const element = this.viewport(from)?.element;
    if (!element) throw localProblem('viewer-compare-failed');
    const moved = () => this.place(from, to, matrix);
    element.addEventListener(CAMERA_MODIFIED, moved);
    return () => element.removeEventListener(CAMERA_MODIFIED, moved);
  }

  /**
   * Move the view `to` to where `from` is; a movement so made moves nothing back.
   *
   * The views are looked up each time: the viewer makes them anew whenever it puts another
   * layer on them, and one that is out of use still moves the camera but not the slice.
   */
  private place(from: string, to: string, matrix: number[][]): void {
    const source = this.viewport(from);
    const target = this.viewport(to);
    if (this.moving || !source || !target) return;
    this.moving = true;
    try {
      target.setCamera?.(movedCamera(source.getCamera(), matrix));
      target.render();
    } finally {
      this.moving = false;
    }
  }

  /** Back to the layout from before. */
  end(): void {
    this.unlink?.();
    this.unlink = null;
    const { pair, before } = this;
    this.pair = null;
    if (pair) this.run(before ?? 'default', pair.current.studyUid);
  }

  /** Forget without touching the layout: another study was opened in it. */
  forget(): void {
    this.unlink?.();
    this.unlink = null;
    this.pair = null;
  }

  private run(protocolId: string, studyUid: string): void {
    const sets: DisplaySet[] = this.services.displaySetService.getActiveDisplaySets();
    this.services.hangingProtocolService.run(
      { displaySets: sets, activeStudy: { StudyInstanceUID: studyUid } },
      protocolId,
    );
  }
}

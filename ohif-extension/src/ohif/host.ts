/** The parts of the viewer's services that this extension calls (OHIF 3.13; it ships no types). */
import type { LabelImage } from './labels';

export interface DisplaySet {
  displaySetInstanceUID: string;
  StudyInstanceUID: string;
  SeriesInstanceUID: string;
  Modality: string;
  SOPInstanceUID?: string;
  /** Of a SEG: the images it is drawn on. */
  referencedDisplaySetInstanceUID?: string;
  isOverlayDisplaySet?: boolean;
  imageIds?: string[];
  numImageFrames?: number;
  load?: (options: { headers: Record<string, string> }) => Promise<unknown>;
}

export interface Camera {
  position?: number[];
  focalPoint?: number[];
  viewUp?: number[];
  viewPlaneNormal?: number[];
  /** Half the height of the view, in mm. */
  parallelScale?: number;
}

export interface CornerstoneViewport {
  id: string;
  type: string;
  viewportStatus?: string;
  element: HTMLDivElement;
  /** Nothing until an image has arrived; `viewportStatus` says "rendered" before. */
  getImageData?: () => unknown;
  getCurrentImageId?: () => string | undefined;
  getImageIds?: () => string[];
  getFrameOfReferenceUID: () => string;
  getCamera: () => Camera;
  setCamera?: (camera: Camera) => void;
  jumpToWorld?: (point: number[]) => boolean;
  render: () => void;
}

interface Subscription {
  unsubscribe: () => void;
}

interface Publisher<Events extends string> {
  EVENTS: Record<Events, string>;
  subscribe: (event: string, listener: (data: unknown) => void) => Subscription;
}

export interface GridViewport {
  viewportId: string;
  displaySetInstanceUIDs: string[];
}

export interface Services {
  displaySetService: Publisher<'DISPLAY_SETS_ADDED' | 'DISPLAY_SETS_CHANGED'> & {
    getActiveDisplaySets: () => DisplaySet[];
    getDisplaySetByUID: (uid: string) => DisplaySet | undefined;
    getDisplaySetsForSeries: (seriesUid: string) => DisplaySet[];
  };
  viewportGridService: Publisher<'ACTIVE_VIEWPORT_ID_CHANGED' | 'GRID_STATE_CHANGED'> & {
    getState: () => { activeViewportId: string | null; viewports: Map<string, GridViewport> };
    setActiveViewportId: (id: string) => void;
  };
  hangingProtocolService: {
    getState: () => { protocolId: string };
    addProtocol: (id: string, protocol: object) => void;
    addStudy: (study: { StudyInstanceUID: string }) => void;
    run: (
      what: { displaySets: DisplaySet[]; activeStudy: { StudyInstanceUID: string } },
      protocolId: string,
    ) => void;
    getViewportsRequireUpdate: (viewportId: string, displaySetUid: string) => GridViewport[];
  };
  cornerstoneViewportService: {
    getCornerstoneViewport: (id: string) => CornerstoneViewport | null | undefined;
  };
  segmentationService: Publisher<'SEGMENTATION_DATA_MODIFIED' | 'SEGMENTATION_MODIFIED'> & {
    getSegmentation: (id: string) => unknown;
    getSegmentationRepresentations: (viewportId: string, query?: { segmentationId: string }) => unknown[];
    addSegmentationRepresentation: (viewportId: string, query: { segmentationId: string }) => Promise<void>;
    setActiveSegment: (segmentationId: string, segment: number) => void;
    setActiveSegmentation: (viewportId: string, segmentationId: string) => void;
    addSegment: (segmentationId: string, config: { label: string; segmentIndex?: number }) => void;
    removeSegment: (segmentationId: string, segment: number, options: { skipRecordingHistory: boolean }) => void;
    setSegmentLabel: (segmentationId: string, segment: number, label: string) => void;
    setSegmentColor: (viewportId: string, segmentationId: string, segment: number, rgba: number[]) => void;
    remove: (segmentationId: string) => void;
  };
  panelService: { activatePanel: (id: string, force: boolean) => void };
  uiNotificationService: {
    show: (note: { title: string; message: string; type: 'success' | 'error' | 'info' | 'warning'; duration?: number }) => void;
  };
  userAuthenticationService: { getAuthorizationHeader?: () => Record<string, string> | undefined };
}

interface DataSource {
  deleteStudyMetadataPromise: (key: string) => void;
  getConfig: () => { name: string };
  retrieve: {
    series: {
      metadata: (query: { StudyInstanceUID: string; filters?: { seriesInstanceUID: string[] } }) => Promise<unknown>;
    };
  };
}

export interface Host {
  servicesManager: { services: Services };
  commandsManager: { run: (command: string, options?: object) => unknown };
  extensionManager: { getActiveDataSource: () => DataSource[] };
  configuration?: { apiBase?: string };
}

/** The part of the cornerstone tools library used here; the viewer puts it on `window`. */
export interface CornerstoneTools {
  annotation: {
    state: {
      addAnnotation: (annotation: object, element: HTMLDivElement) => string;
      removeAnnotation: (uid: string) => void;
      getAnnotation: (uid: string) => unknown;
    };
    locking: { setAnnotationLocked: (uid: string, locked: boolean) => void };
  };
  segmentation: {
    state: {
      getSegmentation: (id: string) =>
        | {
            segments: Record<string, { segmentIndex: number; label: string }>;
            representationData: { Labelmap?: { imageIds?: string[] } };
          }
        | undefined;
    };
    triggerSegmentationEvents: { triggerSegmentationDataModified: (id: string) => void };
  };
}

/** The part of the cornerstone library used here; the viewer puts it on `window`. */
export interface Cornerstone {
  cache: { getImage: (imageId: string) => LabelImage | undefined };
  metaData: { get: (type: 'instance', imageId: string) => { NumberOfFrames?: number } | undefined };
}

declare global {
  interface Window {
    cornerstoneTools?: CornerstoneTools;
    cornerstone?: Cornerstone;
  }
}

/**
 * The two diameters of each lesion as locked Bidirectional annotations.
 *
 * They are drawn by the viewer's own tool from the end points the service measured
 * (patient millimetres, LPS), so they show on the very slice they were measured on.
 */
import type { Lesion } from '../api/types';
import type { CornerstoneTools, CornerstoneViewport } from './host';
import { imageIndexOf } from './images';

const AXIAL_NORMAL = [0, 0, -1];
const AXIAL_UP = [0, -1, 0];

/** Draw the diameters; gives the ids of the annotations made, for `hideDiameters`. */
export function showDiameters(
  tools: CornerstoneTools,
  viewport: CornerstoneViewport,
  imageIds: readonly string[],
  lesions: readonly Lesion[],
): string[] {
  const uids: string[] = [];
  const camera = viewport.getCamera();
  for (const lesion of lesions) {
    const imageId = imageIds[imageIndexOf(imageIds, lesion.sop_instance_uid, lesion.frame_number)];
    if (!imageId) continue;
    const uid = `metia-${lesion.id}`;
    if (tools.annotation.state.getAnnotation(uid)) tools.annotation.state.removeAnnotation(uid);
    tools.annotation.state.addAnnotation(
      {
        annotationUID: uid,
        highlighted: false,
        invalidated: true,
        isLocked: true,
        isVisible: true,
        metadata: {
          toolName: 'Bidirectional',
          FrameOfReferenceUID: viewport.getFrameOfReferenceUID(),
          referencedImageId: imageId,
          viewPlaneNormal: camera.viewPlaneNormal ?? AXIAL_NORMAL,
          viewUp: camera.viewUp ?? AXIAL_UP,
        },
        data: {
          label: lesion.name,
          cachedStats: {},
          handles: {
            points: [...lesion.long_axis_mm, ...lesion.short_axis_mm].map((point) => [...point]),
            activeHandleIndex: null,
            textBox: {
              hasMoved: false,
              worldPosition: [0, 0, 0],
              worldBoundingBox: {
                topLeft: [0, 0, 0],
                topRight: [0, 0, 0],
                bottomLeft: [0, 0, 0],
                bottomRight: [0, 0, 0],
              },
            },
          },
        },
      },
      viewport.element,
    );
    tools.annotation.locking.setAnnotationLocked(uid, true);
    uids.push(uid);
  }
  viewport.render();
  return uids;
}

export function hideDiameters(tools: CornerstoneTools, uids: readonly string[]): void {
  for (const uid of uids) {
    if (tools.annotation.state.getAnnotation(uid)) tools.annotation.state.removeAnnotation(uid);
  }
}

/**
 * The voxels of a drawn segmentation: reading, comparing and putting them back.
 *
 * The viewer keeps one label image for each image of the series (axes row, column; value:
 * segment number, 0: nothing), also while it shows the series as a volume. Kept copies are
 * sparse, since nearly all of a head is background.
 */
export interface ImageReference {
  sop_instance_uid: string;
  /** One-based; null for an image that has one frame only. */
  frame_number: number | null;
}

/** All label images in the order of `images`; `values` has the axes (image, row, column). */
export interface Labels {
  images: ImageReference[];
  rows: number;
  columns: number;
  values: Uint8Array | Uint16Array;
  segments: { number: number; name: string }[];
}

export interface LabelImage {
  imageId: string;
  referencedImageId: string;
  rows: number;
  columns: number;
  voxelManager: { getScalarData: () => ArrayLike<number> & { [index: number]: number } };
}

interface Sparse {
  where: Uint32Array;
  what: Uint16Array;
}

/** A kept copy, by the image that the labels belong to. */
export type Snapshot = ReadonlyMap<string, Sparse>;

export function snapshotOf(images: readonly LabelImage[]): Snapshot {
  return new Map(images.map((image) => [image.referencedImageId, sparse(image.voxelManager.getScalarData())]));
}

function sparse(values: ArrayLike<number>): Sparse {
  const where: number[] = [];
  for (let index = 0; index < values.length; index++) if (values[index]) where.push(index);
  return { where: Uint32Array.from(where), what: Uint16Array.from(where, (index) => values[index] ?? 0) };
}

export function sameVoxels(snapshot: Snapshot, images: readonly LabelImage[]): boolean {
  return images.every((image) => {
    const kept = snapshot.get(image.referencedImageId);
    const values = image.voxelManager.getScalarData();
    let next = 0;
    for (let index = 0; index < values.length; index++) {
      if (!values[index]) continue;
      if (kept?.where[next] !== index || kept.what[next] !== values[index]) return false;
      next++;
    }
    return next === (kept?.where.length ?? 0);
  });
}

/** Make the label images what they were when the snapshot was taken. */
export function putBack(snapshot: Snapshot, images: readonly LabelImage[]): void {
  for (const image of images) {
    const values = image.voxelManager.getScalarData();
    for (let index = 0; index < values.length; index++) if (values[index]) values[index] = 0;
    const kept = snapshot.get(image.referencedImageId);
    kept?.where.forEach((index, n) => {
      values[index] = kept.what[n] ?? 0;
    });
  }
}

/**
 * Copy the label images for sending; null where there is none.
 *
 * @param names name of each segment, by its number
 * @param reference tells the instance and frame of an image id
 */
export function labelsOf(
  images: readonly LabelImage[],
  names: ReadonlyMap<number, string>,
  reference: (imageId: string) => ImageReference,
): Labels | null {
  const first = images[0];
  if (!first) return null;
  const size = first.rows * first.columns;
  const values = new Uint16Array(size * images.length);
  images.forEach((image, n) => values.set(image.voxelManager.getScalarData(), n * size));
  const used = new Set<number>(values);
  used.delete(0);
  return {
    images: images.map((image) => reference(image.referencedImageId)),
    rows: first.rows,
    columns: first.columns,
    values: Math.max(0, ...used) < 256 ? Uint8Array.from(values) : values,
    segments: [...used].sort((a, b) => a - b).map((number) => ({ number, name: names.get(number) ?? '' })),
  };
}

/** Instance and frame as the address of an image names them (wadors and wadouri). */
export function referenceOf(imageId: string, frameCount: number): ImageReference {
  const uid = /\/instances\/([0-9.]+)/.exec(imageId)?.[1] ?? /[?&]objectUID=([0-9.]+)/.exec(imageId)?.[1] ?? '';
  const frame = /\/frames\/(\d+)/.exec(imageId)?.[1] ?? /[?&]frame=(\d+)/.exec(imageId)?.[1];
  return { sop_instance_uid: uid, frame_number: frameCount > 1 && frame ? Number(frame) : null };
}

/** Little-endian bytes, compressed. */
export async function compressed(values: Uint8Array | Uint16Array): Promise<Blob> {
  const stream = new Blob([littleEndian(values)]).stream().pipeThrough(new CompressionStream('gzip'));
  return new Blob([await new Response(stream).arrayBuffer()], { type: 'application/gzip' });
}

function littleEndian(values: Uint8Array | Uint16Array): ArrayBuffer {
  const bytes = new ArrayBuffer(values.byteLength);
  if (values instanceof Uint8Array) new Uint8Array(bytes).set(values);
  else {
    const view = new DataView(bytes);
    values.forEach((value, index) => view.setUint16(index * 2, value, true));
  }
  return bytes;
}

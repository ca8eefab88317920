import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { compressed, labelsOf, putBack, referenceOf, sameVoxels, snapshotOf, type LabelImage } from '../src/ohif/labels';

function image(name: string, values: number[], rows = 2, columns = 3): LabelImage {
  const data = Uint8Array.from(values);
  return { imageId: `derived:${name}`, referencedImageId: name, rows, columns, voxelManager: { getScalarData: () => data } };
}
const values = (it: LabelImage) => [...(it.voxelManager.getScalarData() as unknown as Uint8Array)];

describe('a snapshot', () => {
  it('notices each changed voxel, and none where a change was undone', () => {
    const images = [image('a', [0, 1, 1, 0, 0, 2]), image('b', [0, 0, 0, 0, 0, 0])];
    const kept = snapshotOf(images);
    expect(sameVoxels(kept, images)).toBe(true);
    for (const one of images) {
      const data = one.voxelManager.getScalarData();
      for (let index = 0; index < data.length; index++) {
        const before = data[index] ?? 0;
        for (const other of [0, 1, 2, 3]) {
          data[index] = other;
          expect(sameVoxels(kept, images)).toBe(other === before);
        }
        data[index] = before;
      }
    }
  });

  it('puts everything back, also what was drawn on an empty image', () => {
    const images = [image('a', [0, 1, 1, 0, 0, 2]), image('b', [0, 0, 0, 0, 0, 0])];
    const kept = snapshotOf(images);
    images[0]!.voxelManager.getScalarData()[1] = 0;
    images[1]!.voxelManager.getScalarData()[5] = 7;
    putBack(kept, images);
    expect(images.map(values)).toEqual([[0, 1, 1, 0, 0, 2], [0, 0, 0, 0, 0, 0]]);
  });
});

describe('labels on their way to the server', () => {
  const reference = (id: string) => ({ sop_instance_uid: id, frame_number: null });

  it('are in the order of the images, with the segments that have voxels', () => {
    const images = [image('b', [0, 0, 3, 0, 0, 0]), image('a', [1, 0, 0, 0, 0, 0])];
    const labels = labelsOf(images, new Map([[1, 'one'], [2, 'erased'], [3, 'three']]), reference);
    expect(labels).toMatchObject({ rows: 2, columns: 3, segments: [{ number: 1, name: 'one' }, { number: 3, name: 'three' }] });
    expect(labels?.images.map((it) => it.sop_instance_uid)).toEqual(['b', 'a']);
    expect(labels?.values).toEqual(Uint8Array.of(0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0));
  });

  it('take two bytes where one is too small, little end first', async () => {
    const data = Uint16Array.of(0, 300, 0, 0, 0, 0);
    const one: LabelImage = { ...image('a', []), voxelManager: { getScalarData: () => data } };
    const labels = labelsOf([one], new Map([[300, 'many']]), reference);
    expect(labels?.values).toBeInstanceOf(Uint16Array);
    const packed = await compressed(labels!.values);
    expect([...gunzipSync(Buffer.from(await packed.arrayBuffer()))]).toEqual([0, 0, 44, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  it('survive packing byte for byte', async () => {
    const bytes = Uint8Array.from({ length: 5000 }, (_, index) => index % 7);
    const packed = await compressed(bytes);
    expect(Uint8Array.from(gunzipSync(Buffer.from(await packed.arrayBuffer())))).toEqual(bytes);
  });

  it('are none without images', () => {
    expect(labelsOf([], new Map(), reference)).toBeNull();
  });
});

describe('the reference of an image', () => {
  it('names the frame of a multi-frame image only', () => {
    const classic = 'wadors:http://h/dicom-web/studies/1.2/series/3.4/instances/5.6.7/frames/1';
    expect(referenceOf(classic, 1)).toEqual({ sop_instance_uid: '5.6.7', frame_number: null });
    expect(referenceOf(classic.replace('frames/1', 'frames/12'), 64)).toEqual({ sop_instance_uid: '5.6.7', frame_number: 12 });
    expect(referenceOf('dicomweb:/wado?objectUID=5.6.7&frame=3', 9)).toEqual({ sop_instance_uid: '5.6.7', frame_number: 3 });
  });
});

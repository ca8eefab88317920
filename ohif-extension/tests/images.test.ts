import { describe, expect, it } from 'vitest';
import { imageIndexOf } from '../src/ohif/images';

const wadors = (sop: string, frame = 1) => `wadors:/dicom-web/studies/1.2/series/1.3/instances/${sop}/frames/${frame}`;

describe('the image of an instance', () => {
  it('is found whatever the order', () => {
    expect(imageIndexOf([wadors('2.25.9'), wadors('2.25.8')], '2.25.8', null)).toBe(1);
    expect(imageIndexOf([wadors('2.25.9')], '2.25.7', null)).toBe(-1);
  });

  it('is not taken for one whose UID begins or ends alike', () => {
    expect(imageIndexOf([wadors('2.25.81'), wadors('12.25.8'), wadors('2.25.8')], '2.25.8')).toBe(2);
  });

  it('is the frame of a multi-frame object', () => {
    const frames = [3, 2, 1].map((frame) => wadors('2.25.8', frame));
    expect(imageIndexOf(frames, '2.25.8', 1)).toBe(2);
    expect(imageIndexOf(frames, '2.25.8', 3)).toBe(0);
    expect(imageIndexOf(frames, '2.25.8', 4)).toBe(-1);
  });

  it('is found in WADO-URI addresses too', () => {
    const ids = ['dicomweb:/wado?requestType=WADO&objectUID=2.25.8&frame=2'];
    expect(imageIndexOf(ids, '2.25.8', 2)).toBe(0);
    expect(imageIndexOf(ids, '2.25.8', 1)).toBe(-1);
  });
});

import { describe, expect, it } from 'vitest';
import { patientAddress, readPlace, studyFollowup, viewerAddress } from '../../src/followup/places';

const place = (address: string) => readPlace(new URL(address, 'http://here'));

describe('the address', () => {
  it('names the patient by its key, and the size that is shown', () => {
    expect(place('/followup')).toEqual({ patient: null, study: null, metric: 'diameter', rules: null });
    expect(place('/followup/')).toMatchObject({ patient: null });
    const view = { metric: 'volume', rules: 'recist-1.1' } as const;
    expect(place(patientAddress('ab12', view))).toEqual({ patient: 'ab12', study: null, ...view });
    expect(patientAddress('ab12')).toBe('/followup/ab12');
    expect(place(patientAddress('a/../b?c'))).toMatchObject({ patient: 'a/../b?c' });
    expect(place(studyFollowup('2.25.1'))).toMatchObject({ patient: null, study: '2.25.1' });
    expect(place('/viewer/followup/%E0%A4%A')).toMatchObject({ patient: null });
  });

  it('of the viewer names study, series, slice and lesion', () => {
    expect(viewerAddress({ studyUid: '2.25.1' })).toBe('/brainmets?StudyInstanceUIDs=2.25.1');
    const full = viewerAddress({ studyUid: '2.25.1', seriesUid: '2.25.2', sopInstanceUid: '2.25.3', lesionId: 'a&b' });
    expect(full).toBe(
      '/brainmets?StudyInstanceUIDs=2.25.1&initialSeriesInstanceUID=2.25.2&initialSopInstanceUID=2.25.3&metiaLesion=a%26b',
    );
  });
});

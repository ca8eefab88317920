import { describe, expect, it } from 'vitest';
import { movedCamera } from '../src/ohif/compare';
import {
  between, comparisonRows, courseIsOf, direction, inverseRigid, isBeingAligned, movePoint, multiply, previousVisit,
} from '../src/state/comparison';
import { lesion, result } from './fixtures';
import { course, seen, track, visit } from './followup/courses';

const registration = (matrix: number[][], accepted = true) => ({ accepted, quality: 0.9, reason: '', matrix });
const IDENTITY = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];
/** A quarter turn about z, then 10 mm along x. */
const TURN = [[0, -1, 0, 10], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];

const link = (relation: string, state: 'automatic' | 'pending' = 'automatic') => ({ state, relation, cost_mm: 2, reason: '' });
const shown = result('r2', { study_uid: '2.25.2', lesions: [lesion(1, { id: 'a' }), lesion(2, { id: 'b' }), lesion(3, { id: 'c' })] });
const visits = [visit(1, '2026-01-01'), visit(2, '2026-03-01', { registration: registration(IDENTITY) })];

describe('the rows of a visit', () => {
  const tracks = [
    track('same', [seen(1, 12), seen(2, 15, { lesion_id: 'a', change_mm: 3, link: link('same') })]),
    track('gone', [seen(1, 9), seen(2, 0)]),
    track('new', [seen(1, 0, { lesion_id: null }), seen(2, 8, { lesion_id: 'b', link: link('new') })]),
    track('elsewhere', [seen(1, null), seen(2, null)]),
  ];

  it('are the lesions of now and of before, with what became of them', () => {
    const rows = comparisonRows(course(visits, tracks), shown);
    expect(rows.map((row) => [row.name, row.status.join(), row.change_mm])).toEqual([
      ['same', '', 3],
      ['Lesion 3', '', null],
      ['new', 'new', null],
      ['gone', 'gone', null],
    ]);
    expect(rows[0]).toMatchObject({ before: { longest_diameter_mm: 12 }, lesion: { id: 'a' } });
    expect(rows[3]?.lesion).toBeNull();
  });

  it('put what waits for the reader first', () => {
    const pending = track('p', [seen(1, 9), seen(2, 4, { lesion_id: 'c', link: link('same', 'pending') })]);
    const rows = comparisonRows(course(visits, [...tracks, pending]), shown);
    expect(rows[0]).toMatchObject({ name: 'p', status: ['pending'] });
  });

  it('let a finding of no lesion wait, unless the visit is still being aligned', () => {
    const unlinked = [{ lesion_id: 'c', finding_uid: '2.25.9', name: 'x', longest_diameter_mm: 1, volume_ml: 1, sop_instance_uid: '2.25.8', frame_number: null }];
    const aligned = [visits[0]!, { ...visits[1]!, unlinked }];
    const row = (list: typeof aligned) => comparisonRows(course(list, tracks), shown).find((it) => it.lesion?.id === 'c');
    expect(row(aligned)?.status).toEqual(['pending']);
    expect(row([visits[0]!, { ...visits[1]!, unlinked, registration: null }])?.status).toEqual([]);
  });

  it('are those of the result alone where the course speaks of another version', () => {
    const older = { ...shown, id: 'r1' };
    expect(courseIsOf(course(visits, tracks), older)).toBe(false);
    expect(comparisonRows(course(visits, tracks), older).map((row) => row.name)).toEqual(['Lesion 1', 'Lesion 2', 'Lesion 3']);
  });

  it('say what is rejected, merged or too small, and what a reader said of a lesion that is gone', () => {
    const said = [
      track('r', [seen(1, 5), seen(2, 6, { lesion_id: 'a', review: 'rejected' })]),
      track('m', [seen(1, 5), seen(2, null, { state: 'merged' })]),
      track('s', [seen(1, 5), seen(2, 3, { lesion_id: 'b', state: 'too_small' })]),
    ];
    const found = Object.fromEntries(comparisonRows(course(visits, said), shown).map((row) => [row.name, row.status]));
    expect(found).toMatchObject({ r: ['rejected'], m: ['merged'], s: ['too_small'] });
  });

  it('do not count a lesion rejected before as gone now', () => {
    const rejected = track('x', [seen(1, 5, { review: 'rejected' }), seen(2, 0)]);
    expect(comparisonRows(course(visits, [rejected]), shown).map((row) => row.name)).not.toContain('x');
  });
});

describe('the visit before', () => {
  it('is the last one with a result', () => {
    const three = [visits[0]!, visit(2, '2026-02-01', { result_id: null }), visit(3, '2026-03-01')];
    expect(previousVisit(course(three, []), '2.25.3')?.study_uid).toBe('2.25.1');
    expect(previousVisit(course(three, []), '2.25.1')).toBeNull();
    expect(previousVisit(course(three, []), '2.25.99')).toBeNull();
  });

  it('is waited for until the visit is registered, the earliest never', () => {
    const waiting = course([visits[0]!, { ...visits[1]!, registration: null }], []);
    expect(isBeingAligned(waiting, '2.25.2')).toBe(true);
    expect(isBeingAligned(waiting, '2.25.1')).toBe(false);
    expect(isBeingAligned(course(visits, []), '2.25.2')).toBe(false);
  });
});

describe('going from visit to visit', () => {
  const three = (accepted: boolean) =>
    course([visits[0]!, visit(2, 'b', { registration: registration(TURN) }), visit(3, 'c', { registration: registration(IDENTITY, accepted) })], []);

  it('takes a point there and back', () => {
    const there = between(three(true), '2.25.2', '2.25.3')!;
    const back = between(three(true), '2.25.3', '2.25.2')!;
    expect(movePoint(there, [1, 2, 3])).toEqual([8, 1, 3]);
    expect(movePoint(back, [8, 1, 3])).toEqual([1, 2, 3]);
    expect(multiply(TURN, inverseRigid(TURN))).toEqual(IDENTITY);
  });

  it('is not possible without an accepted registration', () => {
    expect(between(three(false), '2.25.2', '2.25.3')).toBeNull();
    expect(between(three(true), '2.25.1', '2.25.2')).not.toBeNull();
    expect(between(course([visits[0]!, visit(2, 'b')], []), '2.25.1', '2.25.2')).toBeNull();
  });

  it('turns and moves a camera, and keeps its size', () => {
    const camera = { position: [0, 0, 100], focalPoint: [1, 2, 3], viewUp: [0, -1, 0], viewPlaneNormal: [0, 0, -1], parallelScale: 80 };
    expect(movedCamera(camera, TURN)).toEqual({
      position: [10, 0, 100], focalPoint: [8, 1, 3], viewUp: [1, 0, 0], viewPlaneNormal: [0, 0, -1], parallelScale: 80,
    });
  });
});

it('a change below half a tenth is none', () => {
  expect([0.04, -0.04, 0.06, -0.06].map(direction)).toEqual(['equal', 'equal', 'larger', 'smaller']);
});

import { describe, expect, it } from 'vitest';
import { spiderLines, sumChanges, waterfall, withoutBaseline } from '../../src/followup/shape/changes';
import { baselineAt, changeOf, percentChange, personName, sizeOf, timeOf } from '../../src/followup/shape/course';
import { lesionLines, limits, sumLine, timeDomain } from '../../src/followup/shape/timeline';
import { assessed, course, seen, track, visit } from './courses';

const DAYS = ['2026-01-01', '2026-03-01', '2026-05-01', '2026-07-01', '2026-09-01'];
const visits = (...sums: (number | null)[]) =>
  sums.map((sum_mm, n) => {
    const percent = n && sum_mm !== null ? ((sum_mm - sums[0]!) / sums[0]!) * 100 : null;
    return visit(n + 1, DAYS[n]!, {
      sum_mm,
      change_from_baseline_percent: percent,
      assessment: assessed(n ? 'SD' : 'BASELINE', sum_mm, percent),
    });
  });

describe('a day', () => {
  it('is midnight UTC, and nothing where it cannot be read', () => {
    expect(timeOf('2026-03-29')).toBe(Date.UTC(2026, 2, 29));
    expect([timeOf(null), timeOf(''), timeOf('20260329'), timeOf('2026-13-01')]).toEqual([null, null, null, null]);
  });
});

describe('a name', () => {
  it('is read as DICOM writes it, in whatever completeness', () => {
    expect(personName('Doe^Jane^Q^Dr.^PhD')).toBe('Doe, Dr. Jane Q, PhD');
    expect(personName('Doe')).toBe('Doe');
    expect(personName('Yamada^Tarou=山田^太郎')).toBe('Yamada, Tarou');
    expect(personName('^Jane')).toBe('Jane');
    expect(personName(null)).toBe('');
  });
});

describe('a size', () => {
  it('is zero where a lesion is gone, a default where it is too small, none where nobody looked', () => {
    expect(sizeOf(seen(1, 12), 'diameter')).toBe(12);
    expect(sizeOf(seen(1, 0), 'diameter')).toBe(0);
    expect(sizeOf(seen(1, 0), 'volume')).toBe(0);
    expect(sizeOf(seen(1, null), 'diameter')).toBeNull();
    expect(sizeOf(seen(1, null, { state: 'too_small' }), 'diameter')).toBe(5);
    expect(sizeOf(seen(1, 4, { state: 'too_small' }), 'diameter')).toBe(4);
    expect(sizeOf(seen(1, null, { state: 'too_small' }), 'volume')).toBeNull();
    expect(sizeOf(seen(1, 9, { state: 'merged' }), 'diameter')).toBeNull();
    expect(sizeOf(seen(1, 9, { review: 'rejected' }), 'diameter')).toBeNull();
    expect(sizeOf(null, 'volume')).toBeNull();
  });

  it('is compared with something only', () => {
    expect(percentChange(7, 10)).toBeCloseTo(-30);
    expect([percentChange(1, 0), percentChange(1, null), percentChange(null, 1)]).toEqual([null, null, null]);
  });
});

describe('a lesion line', () => {
  const lineOf = (...observations: ReturnType<typeof seen>[]) =>
    lesionLines(course(visits(10, 10, 10, 10, 10), [track('M1', observations)]), 'diameter')[0];

  it('is broken, and bridged, where a visit has no value', () => {
    const line = lineOf(seen(1, 12), seen(2, 11), seen(3, null), seen(4, 10), seen(5, 9));
    expect(line?.runs.map((run) => run.map((point) => point.value))).toEqual([[12, 11], [10, 9]]);
    expect(line?.gaps).toEqual([{ studyUid: '2.25.3', time: Date.UTC(2026, 4, 1), why: 'not_assessed' }]);
    expect(line?.bridges.map(([a, b]) => [a.value, b.value])).toEqual([[11, 10]]);
  });

  it('is broken where the course says nothing of a visit', () => {
    const line = lineOf(seen(1, 12), seen(3, 10));
    expect(line?.runs).toHaveLength(2);
    expect(line?.gaps.map((gap) => gap.studyUid)).toEqual(['2.25.2', '2.25.4', '2.25.5']);
  });

  it('begins with the last visit that did not find the lesion', () => {
    const line = lineOf(seen(1, 0), seen(2, 0), seen(3, 6), seen(4, 8));
    expect(line?.points.map((point) => point.value)).toEqual([0, 6, 8]);
    const unknown = lineOf(seen(1, null), seen(2, null), seen(3, 6));
    expect(unknown?.points.map((point) => point.value)).toEqual([6]);
    expect(unknown?.gaps.map((gap) => gap.studyUid)).toEqual(['2.25.4', '2.25.5']);
  });

  it('says how a lesion ended, and that it is gone', () => {
    expect(lineOf(seen(1, 12), seen(2, 9, { state: 'merged' }))?.gaps[0]?.why).toBe('merged');
    const gone = lineOf(seen(1, 12), seen(2, 0));
    expect(gone?.points.at(-1)).toMatchObject({ value: 0, assumed: true });
  });

  it('keeps what waits for the reader apart', () => {
    const pending = { state: 'pending', relation: 'same', cost_mm: 9, reason: '' } as const;
    const line = lineOf(seen(1, 12), seen(2, 11, { link: pending }));
    expect(line?.points.map((point) => point.pending)).toEqual([false, true]);
  });

  it('of a lesion nobody ever saw is not drawn, nor a visit without date', () => {
    expect(lineOf(seen(1, 0), seen(2, null))).toBeUndefined();
    const undated = course([visit(1, null)], [track('M1', [seen(1, 12)])]);
    expect(lesionLines(undated, 'diameter')).toEqual([]);
    const twice = visit(1, DAYS[0]!, { left_out: { code: 'same-day', text: '' } });
    expect(lesionLines(course([twice], [track('M1', [seen(1, 12)])]), 'diameter')).toEqual([]);
  });
});

describe('the sum', () => {
  it('has a gap where it is not complete', () => {
    const line = sumLine(course(visits(20, null, 10), []), 'diameter');
    expect(line.points.map((point) => point.value)).toEqual([20, 10]);
    expect(line.gaps.map((gap) => gap.why)).toEqual(['no_value']);
  });

  it('that not every target is in is none', () => {
    const part = visits(20, 12);
    part[1] = { ...part[1]!, sum_complete: false };
    expect(sumLine(course(part, []), 'diameter').points).toHaveLength(1);
  });

  it('has no gap before the baseline', () => {
    const early = visit(1, DAYS[0]!, { is_baseline: false, assessment: assessed('NOT_APPLICABLE') });
    const line = sumLine(course([early, visit(2, DAYS[1]!, { is_baseline: true, sum_mm: 9 })], []), 'diameter');
    expect(line.gaps).toEqual([]);
  });
});

describe('the limits', () => {
  it('follow the nadir down and never up, and compare no visit with itself', () => {
    const [only] = limits(course(visits(20, 15, null, 10, 18), []), 'diameter');
    expect(only).toMatchObject({ baseline: 20, response: 14 });
    expect(only?.steps.map((step) => [step.nadir, step.from, step.to])).toEqual([
      [20, timeOf(DAYS[0]!), timeOf(DAYS[1]!)],
      [15, timeOf(DAYS[1]!), timeOf(DAYS[3]!)],
      [10, timeOf(DAYS[3]!), timeOf(DAYS[4]!)],
    ]);
    expect(only?.steps[2]?.progression).toBeCloseTo(12);
  });

  it('start anew where the comparison does', () => {
    const again = course(visits(20, 10, 12, 6), []);
    again.plan.resets = [{ study_uid: '2.25.3', reason: 'new_treatment' }];
    expect(limits(again, 'diameter').map((period) => [period.baseline, period.steps.map((step) => step.nadir)])).toEqual([
      [20, [20, 10]],
      [12, [12]],
    ]);
    expect(baselineAt(again, '2.25.2')?.study_uid).toBe('2.25.1');
    expect(baselineAt(again, '2.25.4')?.study_uid).toBe('2.25.3');
  });

  it('are others for volumes, and none without a baseline', () => {
    expect(limits(course(visits(10, 10), []), 'volume')[0]?.response).toBeCloseTo(3.5);
    expect(limits(course(visits(0, 10), []), 'diameter')).toEqual([]);
    expect(limits(course([], []), 'diameter')).toEqual([]);
  });

  it('leave room at the ends of the time', () => {
    const day = 86_400_000;
    expect(timeDomain([0])).toEqual([-14 * day, 14 * day]);
    expect(timeDomain([0, 1000 * day])).toEqual([-40 * day, 1040 * day]);
  });
});

describe('changes', () => {
  const shrinking = track('M1', [seen(1, 20), seen(2, 10, { change_percent: -50 }), seen(3, 15, { change_percent: -25 })]);
  const growing = track('M2', [seen(1, 10), seen(2, 11, { change_percent: 10 }), seen(3, 14, { change_percent: 40 })]);
  const fresh = track('M3', [seen(1, 0), seen(2, 0), seen(3, 7)]);
  const three = course(visits(30, 21, 29), [shrinking, growing, fresh]);

  it('of the waterfall are the best ones, worst first, after the sum', () => {
    const bars = waterfall(three, 'diameter').map((bar) => [bar.track?.label ?? null, bar.best.value, bar.latest.value]);
    expect(bars).toEqual([
      [null, expect.closeTo(-30), expect.closeTo(-3.333, 2)],
      ['M2', 10, 40],
      ['M1', -50, -25],
    ]);
  });

  it('begin at nought, and leave out what was not there at baseline', () => {
    const lines = spiderLines(three, 'diameter');
    expect(lines.map((line) => line.points.map((point) => point.value))).toEqual([[0, -50, -25], [0, 10, 40]]);
    expect(withoutBaseline(three, 'diameter').map((lesion) => lesion.label)).toEqual(['M3']);
  });

  it('are broken where a visit has no value', () => {
    const broken = track('M1', [seen(1, 20), seen(2, null), seen(3, 15, { change_percent: -25 })]);
    const [line] = spiderLines(course(visits(20, null, 15), [broken]), 'diameter');
    expect(line?.runs.map((run) => run.map((point) => point.value))).toEqual([[0], [-25]]);
    expect(line?.gaps.map((gap) => gap.why)).toEqual(['not_assessed']);
    expect(sumChanges(course(visits(20, null, 15), []), 'diameter').runs).toHaveLength(2);
  });

  it('of volumes are reckoned here', () => {
    expect(changeOf(three, shrinking, '2.25.2', 'volume')).toBeCloseTo(-87.5, 1);
    expect(changeOf(three, shrinking, '2.25.1', 'volume')).toBeNull();
    expect(sumChanges(three, 'volume').points.map((point) => Math.round(point.value))).toEqual([0, -30, -3]);
  });

  it('need a visit after the baseline', () => {
    expect(waterfall(course(visits(20), [track('M1', [seen(1, 20)])]), 'diameter')).toEqual([]);
    expect(waterfall(course([], []), 'diameter')).toEqual([]);
    expect(spiderLines(course([visit(1, null)], [shrinking]), 'diameter')).toEqual([]);
  });
});

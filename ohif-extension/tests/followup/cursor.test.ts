import { describe, expect, it } from 'vitest';
import { moveCursor, nearestPoint, rowsFor, spread, type ChartPoint } from '../../src/followup/shape/cursor';

const at = (series: string, n: number, y: number): ChartPoint => ({ series, studyUid: `${n}`, x: n * 100, y });
const points = [at('a', 1, 10), at('a', 2, 20), at('a', 3, 30), at('b', 1, 50), at('b', 3, 5)];
const name = (point: ChartPoint | null) => point && point.series + point.studyUid;

describe('the cursor', () => {
  it('finds the nearest point within reach', () => {
    expect(name(nearestPoint(points, 196, 25, 20))).toBe('a2');
    expect(nearestPoint(points, 150, 25, 20)).toBeNull();
    expect(nearestPoint([], 0, 0, 20)).toBeNull();
  });

  it('goes along a line and across the lines, and stays at the edges', () => {
    const from = (key: string, start: ChartPoint | null = at('a', 1, 10)) => name(moveCursor(points, start, key));
    expect(from('ArrowRight', null)).toBe('a1');
    expect([from('ArrowRight'), from('ArrowLeft'), from('ArrowDown'), from('ArrowUp'), from('End')]).toEqual(['a2', 'a1', 'b1', 'a1', 'a3']);
    expect(from('ArrowUp', at('a', 3, 30))).toBe('b3');
    expect(from('ArrowRight', at('b', 1, 50))).toBe('b3');
    expect(from('Home', at('b', 3, 5))).toBe('b1');
    expect(moveCursor([], null, 'ArrowRight')).toBeNull();
  });
});

describe('labels', () => {
  it('are kept apart, and within the chart', () => {
    const placed = spread([{ y: 50 }, { y: 52 }, { y: 98 }], 14, 0, 100);
    expect(placed.map((label) => label.labelY)).toEqual([50, 64, 98]);
    expect(spread([{ y: 99 }, { y: 99 }], 14, 0, 100).map((label) => label.labelY)).toEqual([86, 100]);
  });

  it('go to another row where they would cover one another', () => {
    expect(rowsFor([{ x: 10, width: 20 }, { x: 20, width: 20 }, { x: 40, width: 20 }], 2)).toEqual([0, 1, 0]);
    expect(rowsFor([{ x: 10, width: 20 }, { x: 10, width: 20 }, { x: 10, width: 20 }], 2)).toEqual([0, 1, 1]);
    expect(rowsFor([], 2)).toEqual([]);
  });
});

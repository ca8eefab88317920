/**
 * Finding one's way among the points of a chart, by pointer and by keyboard; and keeping
 * labels apart. Pure; pixels of the chart.
 */
export interface ChartPoint {
  /** Track id, or "sum". */
  series: string;
  studyUid: string;
  x: number;
  y: number;
}

export function nearestPoint(points: readonly ChartPoint[], x: number, y: number, reach: number): ChartPoint | null {
  let found: ChartPoint | null = null;
  let closest = reach * reach;
  for (const point of points) {
    const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
    if (distance <= closest) {
      closest = distance;
      found = point;
    }
  }
  return found;
}

/** The point a key leads to; the same one at the edge, the first where there was none. */
export function moveCursor(points: readonly ChartPoint[], current: ChartPoint | null, key: string): ChartPoint | null {
  const sorted = [...points].sort((a, b) => a.x - b.x || a.y - b.y);
  if (!current) return sorted[0] ?? null;
  const own = sorted.filter((point) => point.series === current.series);
  const column = sorted.filter((point) => Math.abs(point.x - current.x) < 0.5).sort((a, b) => a.y - b.y);
  const step = (row: ChartPoint[], by: number) => row[row.findIndex((point) => isSame(point, current)) + by] ?? current;
  switch (key) {
    case 'ArrowRight':
      return step(own, 1);
    case 'ArrowLeft':
      return step(own, -1);
    case 'ArrowDown':
      return step(column, 1);
    case 'ArrowUp':
      return step(column, -1);
    case 'Home':
      return own[0] ?? current;
    case 'End':
      return own.at(-1) ?? current;
    default:
      return current;
  }
}

export function isSame(a: ChartPoint | null, b: ChartPoint | null): boolean {
  return a !== null && b !== null && a.series === b.series && a.studyUid === b.studyUid;
}

/** Put labels of a column at least `gap` apart, within `from`..`to` where that is possible. */
export function spread<T extends { y: number }>(labels: readonly T[], gap: number, from: number, to: number): (T & { labelY: number })[] {
  const placed = [...labels].sort((a, b) => a.y - b.y).map((label) => ({ ...label, labelY: label.y }));
  let floor = from;
  for (const label of placed) {
    label.labelY = Math.max(label.labelY, floor);
    floor = label.labelY + gap;
  }
  let ceiling = to;
  for (const label of placed.toReversed()) {
    label.labelY = Math.min(label.labelY, ceiling);
    ceiling = label.labelY - gap;
  }
  return placed;
}

/** Rows for labels along a line, so that none covers another; the last row takes what does not fit. */
export function rowsFor(labels: readonly { x: number; width: number }[], rows: number): number[] {
  const ends = Array.from({ length: rows }, () => -Infinity);
  const order = labels.map((_, n) => n).sort((a, b) => labels[a]!.x - labels[b]!.x);
  const found = new Array<number>(labels.length).fill(0);
  for (const n of order) {
    const { x, width } = labels[n]!;
    const free = ends.findIndex((end) => end <= x - width / 2);
    const row = free < 0 ? rows - 1 : free;
    ends[row] = x + width / 2;
    found[n] = row;
  }
  return found;
}

/** Axes and grids shared by the charts. */
import type { ScaleLinear, ScaleTime } from 'd3-scale';
import type { PageWords } from '../words';

export type TimeScale = ScaleTime<number, number>;
export type ValueScale = ScaleLinear<number, number>;

interface ValueAxisProps {
  scale: ValueScale;
  left: number;
  right: number;
  ticks: number;
  label: (value: number) => string;
}

export function ValueAxis({ scale, left, right, ticks, label }: ValueAxisProps) {
  return (
    <g className="mfu-axis">
      {scale.ticks(ticks).map((value) => (
        <g key={value} transform={`translate(0 ${scale(value)})`}>
          <line x1={left} x2={right} className={value === 0 ? 'mfu-zero' : 'mfu-grid'} />
          <text x={left - 8} dy="0.32em" textAnchor="end">
            {label(value)}
          </text>
        </g>
      ))}
    </g>
  );
}

interface TimeAxisProps {
  scale: TimeScale;
  y: number;
  top: number;
  words: PageWords;
}

const DAY_MS = 86_400_000;

export function TimeAxis({ scale, y, top, words }: TimeAxisProps) {
  const [first, last] = scale.domain() as [Date, Date];
  const [left, right] = scale.range() as [number, number];
  const span_days = (last.getTime() - first.getTime()) / DAY_MS;
  const count = Math.max(2, Math.floor((right - left) / 110));
  const exact = span_days / count < 25;
  const format = new Intl.DateTimeFormat(words.language === 'en' ? 'en-GB' : words.language, {
    timeZone: 'UTC',
    month: 'short',
    ...(exact ? { day: 'numeric' } : { year: 'numeric' }),
  });
  return (
    <g className="mfu-axis">
      {scale.ticks(count).map((time) => (
        <g key={time.getTime()} transform={`translate(${scale(time)} 0)`}>
          <line y1={top} y2={y} className="mfu-grid" />
          <text y={y + 16} textAnchor="middle">
            {format.format(time)}
          </text>
        </g>
      ))}
      <line x1={left} x2={right} y1={y} y2={y} className="mfu-zero" />
    </g>
  );
}

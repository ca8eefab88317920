/** What stands behind the lines of the timeline: limits of response, and events. */
import type { Metric } from '../shape/course';
import { spread } from '../shape/cursor';
import type { Limits } from '../shape/timeline';
import type { PageWords } from '../words';
import type { TimeScale, ValueScale } from './Axes';

export const EVENT_ROW = 20;

/** A treatment or another event. */
export interface Mark {
  key: string;
  time: number;
  text: string;
  kind: string;
}

interface LimitMarksProps {
  periods: Limits[];
  x: TimeScale;
  y: ValueScale;
  right: number;
  metric: Metric;
  words: PageWords;
}

/** Names of the limits that hold at the end, at the right of the plot. */
function limitLabels({ periods, y, metric, words }: LimitMarksProps) {
  const last = periods.at(-1);
  if (!last) return [];
  const step = last.steps.at(-1);
  const labels = [
    { y: y(last.baseline), text: words.t('chart.baseline'), className: 'mfu-baseline' },
    { y: y(last.response), text: words.t(`chart.response.${metric}`), className: 'mfu-response' },
  ];
  if (step) labels.push({ y: y(step.progression), text: words.t(`chart.progression.${metric}`), className: 'mfu-progression' });
  if (step && step.nadir < last.baseline) labels.push({ y: y(step.nadir), text: words.t('chart.nadir'), className: 'mfu-nadir' });
  return labels;
}

export function LimitMarks(props: LimitMarksProps) {
  const { periods, x, y, right } = props;
  const [bottom, top] = y.range() as [number, number];
  return (
    <g data-cy="mfu-limits">
      {periods.map((period) => (
        <PeriodMarks key={period.studyUid} period={period} x={x} y={y} />
      ))}
      {spread(limitLabels(props), 14, top, bottom).map((label) => (
        <text key={label.text} className={`mfu-label ${label.className}`} x={right + 12} y={label.labelY} dy="0.32em">
          {label.text}
        </text>
      ))}
    </g>
  );
}

function PeriodMarks({ period, x, y }: { period: Limits; x: TimeScale; y: ValueScale }) {
  const [bottom, top] = y.range() as [number, number];
  const [from, to] = [x(period.from), Math.max(x(period.to), x(period.from) + 1)];
  return (
    <g>
      <rect className="mfu-band-response" x={from} width={to - from} y={y(period.response)} height={Math.max(0, bottom - y(period.response))} />
      {period.steps.map((step) => {
        const span = { x1: x(step.from), x2: x(step.to) };
        const limit = y(step.progression);
        return (
          <g key={step.from}>
            <rect className="mfu-band-progression" x={span.x1} width={span.x2 - span.x1} y={top} height={Math.max(0, limit - top)} />
            {limit >= top && <line className="mfu-progression" {...span} y1={limit} y2={limit} />}
            {step.nadir < period.baseline && <line className="mfu-nadir" {...span} y1={y(step.nadir)} y2={y(step.nadir)} />}
          </g>
        );
      })}
      <line className="mfu-response" x1={from} x2={to} y1={y(period.response)} y2={y(period.response)} />
      <line className="mfu-baseline" x1={from} x2={to} y1={y(period.baseline)} y2={y(period.baseline)} />
    </g>
  );
}

interface EventMarksProps {
  marks: Mark[];
  rows: number[];
  x: TimeScale;
  top: number;
  bottom: number;
  lane: number;
}

export function EventMarks({ marks, rows, x, top, bottom, lane }: EventMarksProps) {
  return (
    <g className="mfu-events">
      {marks.map((mark, n) => (
        <g key={mark.key} transform={`translate(${x(mark.time)} 0)`} data-cy={`mfu-event-${mark.kind}`}>
          <line y1={top} y2={lane + rows[n]! * EVENT_ROW + 2} />
          <path d={`M-5 ${bottom + 1}h10l-5 -8z`} />
          <text y={lane + rows[n]! * EVENT_ROW + 14} textAnchor="middle">
            {mark.text}
          </text>
        </g>
      ))}
    </g>
  );
}


/**
 * Sums above, lesions below, on one axis of time: limits of response, categories, events.
 */
import { scaleLinear, scaleUtc } from 'd3-scale';
import { useMemo } from 'react';
import { datedVisits, timeOf, type Course, type Metric } from '../shape/course';
import { rowsFor, spread, type ChartPoint } from '../shape/cursor';
import { lesionLines, limits, sumLine, timeDomain, type LesionLine, type Limits, type Line } from '../shape/timeline';
import type { PageWords } from '../words';
import { TimeAxis, ValueAxis, type TimeScale, type ValueScale } from './Axes';
import { ChartBox, useWidth } from './ChartBox';
import { categoryClass, shortLabel, trackColour } from './look';
import { gapHeight, LineMarks } from './marks';
import { Tip } from './Tip';

export interface ChartProps {
  course: Course;
  metric: Metric;
  words: PageWords;
  hidden: ReadonlySet<string>;
  highlight: string | null;
  onHighlight: (series: string | null) => void;
  onOpen: (studyUid: string, track: string | null) => void;
}

export const SUM = 'sum';
const LEFT = 52;
const RIGHT = 92;
const CATEGORY_ROW = 24;
const SUM_HEIGHT = 190;
const LESION_HEIGHT = 230;
const TITLE = 22;
const EVENT_ROW = 20;
const AXIS = 26;
const SUM_COLOUR = 'var(--mfu-ink)';

interface Mark {
  key: string;
  time: number;
  text: string;
  kind: string;
}

/** Treatments as the plan and the events say, oldest first. */
export function marksOf(course: Course, words: PageWords): Mark[] {
  const planned = (['treatment_start', 'immunotherapy_start'] as const).flatMap((kind) => {
    const time = timeOf(course.plan[kind]);
    return time === null ? [] : [{ key: kind, time, kind, text: words.said('event', kind) }];
  });
  const events = course.events.flatMap((event) => {
    const time = timeOf(event.date);
    const lesion = course.tracks.find((track) => track.id === event.track_id)?.label;
    const text = [words.said('event', event.kind), lesion].filter(Boolean).join(' ');
    return time === null ? [] : [{ key: event.id, time, kind: event.kind, text }];
  });
  return [...planned, ...events].sort((a, b) => a.time - b.time);
}

export function Timeline(props: ChartProps) {
  const { course, metric, words, hidden, highlight } = props;
  const [measure, width] = useWidth(900);
  const visits = useMemo(() => datedVisits(course), [course]);
  const sum = useMemo(() => sumLine(course, metric), [course, metric]);
  const periods = useMemo(() => limits(course, metric), [course, metric]);
  const lines = useMemo(() => lesionLines(course, metric), [course, metric]);
  const marks = useMemo(() => marksOf(course, words), [course, words]);
  if (visits.length === 0) return <p className="mfu-empty">{words.t('chart.empty')}</p>;

  const domain = timeDomain([...visits.map((visit) => visit.time), ...marks.map((mark) => mark.time)]);
  const x = scaleUtc().domain(domain).range([LEFT, width - RIGHT]);
  const labelWidth = (text: string) => text.length * 6.6 + 14;
  const categories = visits.map(({ visit, time }) => {
    const category = visit.assessment?.category ?? '';
    const open = visit.assessment?.confirmed === false;
    const text = category ? words.said('short', category) + (open ? '?' : '') : '';
    return { visit, category, open, text, x: x(time), width: labelWidth(text) };
  });
  const rows = rowsFor(categories, 2);
  const eventRows = rowsFor(marks.map((mark) => ({ x: x(mark.time), width: labelWidth(mark.text) })), 3);
  const laneRows = marks.length === 0 ? 0 : Math.max(...eventRows) + 1;
  const top = CATEGORY_ROW * (Math.max(0, ...rows) + 1);
  const sumTop = top + TITLE;
  const sumBottom = sumTop + SUM_HEIGHT;
  const lesionTop = sumBottom + TITLE + 12;
  const lesionBottom = lesionTop + LESION_HEIGHT;
  const height = lesionBottom + AXIS + laneRows * EVENT_ROW + 4;

  const shown = lines.filter((line) => !hidden.has(line.track.id));
  const ySum = scaleLinear().domain([0, sumMaximum(sum, periods)]).nice(4).range([sumBottom, sumTop]);
  const largest = Math.max(0, ...shown.flatMap((line) => line.points.map((point) => point.value)));
  const yLesion = scaleLinear().domain([0, (largest || 10) * 1.08]).nice(4).range([lesionBottom, lesionTop]);
  const points = [...pointsOf(SUM, sum, x, ySum), ...shown.flatMap((line) => pointsOf(line.track.id, line, x, yLesion))];
  const number = (value: number) => words.number(value, metric === 'volume' && value < 10 && value % 1 !== 0 ? 1 : 0);

  return (
    <div ref={measure}>
      <ChartBox
        name="timeline"
        title={words.t('chart.timeline')}
        width={width}
        height={height}
        points={points}
        words={words}
        onHighlight={props.onHighlight}
        onOpen={(point) => props.onOpen(point.studyUid, point.series === SUM ? null : point.series)}
        tip={(point) => <Tip course={course} series={point.series} studyUid={point.studyUid} metric={metric} words={words} />}
      >
        {visits.map(({ visit, time }) => (
          <line key={visit.study_uid} className="mfu-visit" x1={x(time)} x2={x(time)} y1={top} y2={lesionBottom} />
        ))}
        {categories.map((entry, n) => entry.text && (
          <g key={entry.visit.study_uid} transform={`translate(${entry.x} ${rows[n]! * CATEGORY_ROW + 2})`} className={categoryClass(entry.category)}>
            <rect x={-entry.width / 2} width={entry.width} height={18} rx={9} className={entry.open ? 'mfu-open' : ''} />
            <text y={13} textAnchor="middle" data-cy="mfu-category">{entry.text}</text>
          </g>
        ))}
        <text className="mfu-subtitle" x={LEFT} y={sumTop - 8}>{words.t(`chart.timeline.sum.${metric}`)}</text>
        <LimitMarks periods={periods} x={x} y={ySum} right={width - RIGHT} metric={metric} words={words} />
        <ValueAxis scale={ySum} left={LEFT} right={width - RIGHT} ticks={4} label={number} />
        <LineMarks line={sum} x={x} y={ySum} colour={SUM_COLOUR} shape={0} className={`mfu-series mfu-sum ${dim(highlight, SUM)}`} />
        <text className="mfu-subtitle" x={LEFT} y={lesionTop - 8}>{words.t(`chart.timeline.lesions.${metric}`)}</text>
        <ValueAxis scale={yLesion} left={LEFT} right={width - RIGHT} ticks={5} label={number} />
        <TimeAxis scale={x} y={lesionBottom} top={sumTop} words={words} />
        <EventMarks marks={marks} rows={eventRows} x={x} top={top} bottom={lesionBottom} lane={lesionBottom + AXIS} />
        {shown.map((line) => (
          <LineMarks key={line.track.id} line={line} x={x} y={yLesion} colour={trackColour(line.track)} shape={course.tracks.indexOf(line.track)} className={`mfu-series ${dim(highlight, line.track.id)}`} />
        ))}
        <LesionLabels lines={shown} x={width - RIGHT + 12} y={yLesion} top={lesionTop} bottom={lesionBottom} highlight={highlight} />
      </ChartBox>
    </div>
  );
}

export function dim(highlight: string | null, series: string): string {
  if (highlight === null) return '';
  return highlight === series ? 'mfu-on' : 'mfu-dim';
}

function sumMaximum(sum: Line, periods: Limits[]): number {
  const values = sum.points.map((point) => point.value);
  for (const period of periods) values.push(period.baseline, ...period.steps.slice(-1).map((step) => step.progression));
  return Math.max(0, ...values) * 1.08 || 10;
}

function pointsOf(series: string, line: Line, x: TimeScale, y: ValueScale): ChartPoint[] {
  const measured = line.points.map((point) => ({ series, studyUid: point.studyUid, x: x(point.time), y: y(point.value) }));
  const gaps = line.gaps.map((gap) => ({ series, studyUid: gap.studyUid, x: x(gap.time), y: y(gapHeight(line, gap) ?? 0) }));
  return [...measured, ...gaps];
}

interface LimitMarksProps {
  periods: Limits[];
  x: TimeScale;
  y: ValueScale;
  right: number;
  metric: Metric;
  words: PageWords;
}

function LimitMarks({ periods, x, y, right, metric, words }: LimitMarksProps) {
  const [bottom, top] = y.range() as [number, number];
  const last = periods.at(-1);
  const lastStep = last?.steps.at(-1);
  const labels = last
    ? [
        { y: y(last.baseline), text: words.t('chart.baseline'), className: 'mfu-baseline' },
        { y: y(last.response), text: words.t(`chart.response.${metric}`), className: 'mfu-response' },
        ...(lastStep
          ? [
              { y: y(lastStep.progression), text: words.t(`chart.progression.${metric}`), className: 'mfu-progression' },
              ...(lastStep.nadir < last.baseline ? [{ y: y(lastStep.nadir), text: words.t('chart.nadir'), className: 'mfu-nadir' }] : []),
            ]
          : []),
      ]
    : [];
  return (
    <g data-cy="mfu-limits">
      {periods.map((period) => {
        const [from, to] = [x(period.from), Math.max(x(period.to), x(period.from) + 1)];
        return (
          <g key={period.studyUid}>
            <rect className="mfu-band-response" x={from} width={to - from} y={y(period.response)} height={Math.max(0, bottom - y(period.response))} />
            {period.steps.map((step) => (
              <g key={step.from}>
                <rect className="mfu-band-progression" x={x(step.from)} width={x(step.to) - x(step.from)} y={top} height={Math.max(0, y(step.progression) - top)} />
                {y(step.progression) >= top && (
                  <line className="mfu-progression" x1={x(step.from)} x2={x(step.to)} y1={y(step.progression)} y2={y(step.progression)} />
                )}
                {step.nadir < period.baseline && (
                  <line className="mfu-nadir" x1={x(step.from)} x2={x(step.to)} y1={y(step.nadir)} y2={y(step.nadir)} />
                )}
              </g>
            ))}
            <line className="mfu-response" x1={from} x2={to} y1={y(period.response)} y2={y(period.response)} />
            <line className="mfu-baseline" x1={from} x2={to} y1={y(period.baseline)} y2={y(period.baseline)} />
          </g>
        );
      })}
      {spread(labels, 14, top, bottom).map((label) => (
        <text key={label.text} className={`mfu-label ${label.className}`} x={right + 12} y={label.labelY} dy="0.32em">
          {label.text}
        </text>
      ))}
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

function EventMarks({ marks, rows, x, top, bottom, lane }: EventMarksProps) {
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

interface LesionLabelsProps {
  lines: LesionLine[];
  x: number;
  y: ValueScale;
  top: number;
  bottom: number;
  highlight: string | null;
}

/** Names at the ends of the lines, instead of a legend to look up. */
function LesionLabels({ lines, x, y, top, bottom, highlight }: LesionLabelsProps) {
  const labels = lines.map((line) => ({ track: line.track, y: y(line.points.at(-1)?.value ?? 0) }));
  return (
    <g>
      {spread(labels, 13, top, bottom).map(({ track, labelY }) => (
        <text key={track.id} x={x} y={labelY} dy="0.32em" className={`mfu-label ${dim(highlight, track.id)}`} style={{ fill: trackColour(track) }}>
          {shortLabel(track.label)}
        </text>
      ))}
    </g>
  );
}

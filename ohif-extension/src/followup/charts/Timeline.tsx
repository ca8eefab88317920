/**
 * Sums above, lesions below, on one axis of time: limits of response, categories, events.
 */
import { scaleLinear, scaleUtc } from 'd3-scale';
import { useMemo } from 'react';
import { datedVisits, timeOf, type Course, type DatedVisit, type Metric } from '../shape/course';
import { rowsFor, spread, type ChartPoint } from '../shape/cursor';
import { lesionLines, limits, sumLine, timeDomain, type LesionLine, type Limits, type Line } from '../shape/timeline';
import type { PageWords } from '../words';
import { TimeAxis, ValueAxis, type TimeScale, type ValueScale } from './Axes';
import { ChartBox, useWidth } from './ChartBox';
import { EVENT_ROW, EventMarks, LimitMarks, type Mark } from './backdrop';
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
const AXIS = 26;
const SUM_COLOUR = 'var(--mfu-ink)';

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

interface Shown {
  visits: DatedVisit[];
  sum: Line;
  periods: Limits[];
  lines: LesionLine[];
  marks: Mark[];
}

/** Room for a text of the size of the labels. */
const labelWidth = (text: string) => text.length * 6.6 + 14;

/** Where everything stands: rows of categories, two plots, the axis, rows of events. */
function layoutOf({ visits, sum, periods, lines, marks }: Shown, width: number, words: PageWords) {
  const domain = timeDomain([...visits.map((visit) => visit.time), ...marks.map((mark) => mark.time)]);
  const x = scaleUtc().domain(domain).range([LEFT, width - RIGHT]);
  const pills = visits.map(({ visit, time }): Pill => {
    const category = visit.assessment?.category ?? '';
    const open = visit.assessment?.confirmed === false;
    const text = category ? words.said('short', category) + (open ? '?' : '') : '';
    return { key: visit.study_uid, category, open, text, x: x(time), width: labelWidth(text) };
  });
  const pillRows = rowsFor(pills, 2);
  const eventRows = rowsFor(marks.map((mark) => ({ x: x(mark.time), width: labelWidth(mark.text) })), 3);
  const top = CATEGORY_ROW * (Math.max(0, ...pillRows) + 1);
  const sumTop = top + TITLE;
  const sumBottom = sumTop + SUM_HEIGHT;
  const lesionTop = sumBottom + TITLE + 12;
  const lesionBottom = lesionTop + LESION_HEIGHT;
  const lane = lesionBottom + AXIS;
  const largest = Math.max(0, ...lines.flatMap((line) => line.points.map((point) => point.value)));
  return {
    x,
    pills,
    pillRows,
    eventRows,
    top,
    sumTop,
    lesionTop,
    lesionBottom,
    lane,
    right: width - RIGHT,
    height: lane + (Math.max(-1, ...eventRows) + 1) * EVENT_ROW + 4,
    ySum: scaleLinear().domain([0, sumMaximum(sum, periods)]).nice(4).range([sumBottom, sumTop]),
    yLesion: scaleLinear().domain([0, (largest || 10) * 1.08]).nice(4).range([lesionBottom, lesionTop]),
  };
}

export function Timeline(props: ChartProps) {
  const { course, metric, words, hidden } = props;
  const [measure, width] = useWidth(900);
  const shown = useMemo(
    (): Shown => ({
      visits: datedVisits(course),
      sum: sumLine(course, metric),
      periods: limits(course, metric),
      lines: lesionLines(course, metric).filter((line) => !hidden.has(line.track.id)),
      marks: marksOf(course, words),
    }),
    [course, metric, words, hidden],
  );
  const layout = useMemo(() => layoutOf(shown, width, words), [shown, width, words]);
  if (shown.visits.length === 0) return <p className="mfu-empty">{words.t('chart.empty')}</p>;
  const { x, ySum, yLesion } = layout;
  const points = [
    ...pointsOf(SUM, shown.sum, x, ySum),
    ...shown.lines.flatMap((line) => pointsOf(line.track.id, line, x, yLesion)),
  ];
  return (
    <div ref={measure}>
      <ChartBox
        name="timeline"
        title={words.t('chart.timeline')}
        width={width}
        height={layout.height}
        points={points}
        words={words}
        onHighlight={props.onHighlight}
        onOpen={(point) => props.onOpen(point.studyUid, point.series === SUM ? null : point.series)}
        tip={(point) => <Tip course={course} series={point.series} studyUid={point.studyUid} metric={metric} words={words} />}
      >
        <Plots {...props} shown={shown} layout={layout} />
      </ChartBox>
    </div>
  );
}

interface PlotsProps extends ChartProps {
  shown: Shown;
  layout: ReturnType<typeof layoutOf>;
}

function Plots({ course, metric, words, highlight, shown, layout }: PlotsProps) {
  const { x, ySum, yLesion, top, sumTop, lesionTop, lesionBottom, right } = layout;
  const number = (value: number) => words.number(value, metric === 'volume' && value < 10 && value % 1 !== 0 ? 1 : 0);
  return (
    <>
      {shown.visits.map(({ visit, time }) => (
        <line key={visit.study_uid} className="mfu-visit" x1={x(time)} x2={x(time)} y1={top} y2={lesionBottom} />
      ))}
      {layout.pills.map((pill, n) => pill.text && <PillMark key={pill.key} pill={pill} row={layout.pillRows[n] ?? 0} />)}
      <text className="mfu-subtitle" x={LEFT} y={sumTop - 8}>
        {words.t(`chart.timeline.sum.${metric}`)}
      </text>
      <LimitMarks periods={shown.periods} x={x} y={ySum} right={right} metric={metric} words={words} />
      <ValueAxis scale={ySum} left={LEFT} right={right} ticks={4} label={number} />
      <LineMarks line={shown.sum} x={x} y={ySum} colour={SUM_COLOUR} shape={0} className={`mfu-series mfu-sum ${dim(highlight, SUM)}`} />
      <text className="mfu-subtitle" x={LEFT} y={lesionTop - 8}>
        {words.t(`chart.timeline.lesions.${metric}`)}
      </text>
      <ValueAxis scale={yLesion} left={LEFT} right={right} ticks={5} label={number} />
      <TimeAxis scale={x} y={lesionBottom} top={sumTop} words={words} />
      <EventMarks marks={shown.marks} rows={layout.eventRows} x={x} top={top} bottom={lesionBottom} lane={layout.lane} />
      {shown.lines.map((line) => (
        <LineMarks key={line.track.id} line={line} x={x} y={yLesion} colour={trackColour(line.track)} shape={course.tracks.indexOf(line.track)} className={`mfu-series ${dim(highlight, line.track.id)}`} />
      ))}
      <LesionLabels lines={shown.lines} x={right + 12} y={yLesion} top={lesionTop} bottom={lesionBottom} highlight={highlight} />
    </>
  );
}

interface Pill {
  key: string;
  category: string;
  /** Not confirmed yet. */
  open: boolean;
  text: string;
  x: number;
  width: number;
}

function PillMark({ pill, row }: { pill: Pill; row: number }) {
  return (
    <g transform={`translate(${pill.x} ${row * CATEGORY_ROW + 2})`} className={categoryClass(pill.category)}>
      <rect x={-pill.width / 2} width={pill.width} height={18} rx={9} className={pill.open ? 'mfu-open' : ''} />
      <text y={13} textAnchor="middle" data-cy="mfu-category">
        {pill.text}
      </text>
    </g>
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

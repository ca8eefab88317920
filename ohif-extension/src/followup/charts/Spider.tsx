/** Change of each lesion from baseline, over time; the sum as a thicker line. */
import { scaleLinear, scaleUtc } from 'd3-scale';
import { useMemo } from 'react';
import { spread, type ChartPoint } from '../shape/cursor';
import { spiderLines, sumChanges } from '../shape/changes';
import { RULES, timeDomain, type Line } from '../shape/timeline';
import { TimeAxis, ValueAxis } from './Axes';
import { ChartBox, useWidth } from './ChartBox';
import { shortLabel, trackColour } from './look';
import { LineMarks } from './marks';
import { Tip } from './Tip';
import { dim, SUM, type ChartProps } from './Timeline';

const LEFT = 56;
const RIGHT = 88;
const HEIGHT = 300;
const TOP = 18;
const BOTTOM = 34;
const HIGHEST_PERCENT = 200;

interface Thread {
  series: string;
  label: string;
  colour: string;
  shape: number;
  line: Line;
}

export function Spider(props: ChartProps) {
  const { course, metric, words, hidden, highlight } = props;
  const [measure, width] = useWidth(480);
  const threads = useMemo((): Thread[] => {
    const sum = { series: SUM, label: words.t('chart.sum'), colour: 'var(--mfu-ink)', shape: 0, line: sumChanges(course, metric) };
    const lesions = spiderLines(course, metric).map((line) => ({
      series: line.track.id,
      label: line.track.label,
      colour: trackColour(line.track),
      shape: course.tracks.indexOf(line.track),
      line,
    }));
    return [sum, ...lesions].filter((thread) => thread.line.points.length > 1);
  }, [course, metric, words]);
  const shown = threads.filter((thread) => !hidden.has(thread.series));
  if (shown.length === 0) return <p className="mfu-empty">{words.t('chart.empty.change')}</p>;
  const all = shown.flatMap((thread) => thread.line.points);
  const top = Math.min(HIGHEST_PERCENT, Math.max(40, ...all.map((point) => point.value)) * 1.1);
  const y = scaleLinear().domain([-100, top]).range([HEIGHT - BOTTOM, TOP]).clamp(true);
  const x = scaleUtc().domain(timeDomain(all.map((point) => point.time))).range([LEFT, width - RIGHT]);
  const points: ChartPoint[] = shown.flatMap((thread) =>
    thread.line.points.map((point) => ({ series: thread.series, studyUid: point.studyUid, x: x(point.time), y: y(point.value) })),
  );
  const ends = shown.map((thread) => ({ thread, y: y(thread.line.points.at(-1)!.value) }));
  const limit = (RULES[metric].response - 1) * 100;
  return (
    <div ref={measure}>
      <ChartBox
        name="spider"
        title={words.t('chart.spider')}
        note={words.t('chart.spider.long')}
        width={width}
        height={HEIGHT}
        points={points}
        words={words}
        onHighlight={props.onHighlight}
        onOpen={(point) => props.onOpen(point.studyUid, point.series === SUM ? null : point.series)}
        tip={(point) => <Tip course={course} series={point.series} studyUid={point.studyUid} metric={metric} words={words} />}
      >
        <ValueAxis scale={y} left={LEFT} right={width - RIGHT} ticks={6} label={(value) => `${words.number(value, 0)} %`} />
        <TimeAxis scale={x} y={HEIGHT - BOTTOM} top={TOP} words={words} />
        <line className="mfu-response" x1={LEFT} x2={width - RIGHT} y1={y(limit)} y2={y(limit)} />
        {metric === 'diameter' && <line className="mfu-progression" x1={LEFT} x2={width - RIGHT} y1={y(20)} y2={y(20)} />}
        {shown.map((thread) => (
          <LineMarks key={thread.series} line={thread.line} x={x} y={y} colour={thread.colour} shape={thread.shape} className={`mfu-series ${thread.series === SUM ? 'mfu-sum' : ''} ${dim(highlight, thread.series)}`} />
        ))}
        {spread(ends, 13, TOP, HEIGHT - BOTTOM).map(({ thread, labelY }) => (
          <text key={thread.series} x={width - RIGHT + 10} y={labelY} dy="0.32em" className={`mfu-label ${dim(highlight, thread.series)}`} style={{ fill: thread.colour }}>
            {shortLabel(thread.label)}
          </text>
        ))}
      </ChartBox>
    </div>
  );
}

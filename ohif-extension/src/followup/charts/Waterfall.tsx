/** Best change from baseline of each lesion, worst first, the sum before all. */
import { scaleLinear } from 'd3-scale';
import { useMemo } from 'react';
import type { ChartPoint } from '../shape/cursor';
import { waterfall, withoutBaseline, type Bar } from '../shape/changes';
import { RULES } from '../shape/timeline';
import { ValueAxis } from './Axes';
import { ChartBox, useWidth } from './ChartBox';
import { shortLabel, trackColour } from './look';
import { Tip } from './Tip';
import { dim, SUM, type ChartProps } from './Timeline';

const LEFT = 56;
const RIGHT = 12;
const HEIGHT = 300;
const TOP = 18;
const BOTTOM = 34;
const HIGHEST_PERCENT = 200;

export function Waterfall(props: ChartProps) {
  const { course, metric, words, hidden, highlight } = props;
  const [measure, width] = useWidth(480);
  const bars = useMemo(() => waterfall(course, metric), [course, metric]);
  const shown = bars.filter((bar) => !bar.track || !hidden.has(bar.track.id));
  if (shown.length === 0) return <p className="mfu-empty">{words.t('chart.empty.change')}</p>;
  const fresh = withoutBaseline(course, metric);
  const highest = Math.max(40, ...shown.flatMap((bar) => [bar.best.value, bar.latest.value]));
  const y = scaleLinear().domain([-100, Math.min(HIGHEST_PERCENT, highest * 1.1)]).range([HEIGHT - BOTTOM, TOP]);
  const step = (width - LEFT - RIGHT) / shown.length;
  const at = (n: number) => LEFT + step * (n + 0.5);
  const clamp = (percent: number) => y(Math.min(percent, y.domain()[1]!));
  const points: ChartPoint[] = shown.map((bar, n) => ({
    series: bar.track?.id ?? SUM,
    studyUid: bar.best.studyUid,
    x: at(n),
    y: clamp(bar.best.value),
  }));
  const limit = (RULES[metric].response - 1) * 100;
  return (
    <div ref={measure}>
      <ChartBox
        name="waterfall"
        title={words.t('chart.waterfall')}
        note={words.t('chart.waterfall.long')}
        width={width}
        height={HEIGHT}
        points={points}
        words={words}
        onHighlight={props.onHighlight}
        onOpen={(point) => props.onOpen(point.studyUid, point.series === SUM ? null : point.series)}
        tip={(point) => <Tip course={course} series={point.series} studyUid={point.studyUid} metric={metric} words={words} />}
      >
        <ValueAxis scale={y} left={LEFT} right={width - RIGHT} ticks={6} label={(value) => `${words.number(value, 0)} %`} />
        <line className="mfu-response" x1={LEFT} x2={width - RIGHT} y1={y(limit)} y2={y(limit)} />
        {metric === 'diameter' && <line className="mfu-progression" x1={LEFT} x2={width - RIGHT} y1={y(20)} y2={y(20)} />}
        {shown.map((bar, n) => (
          <BarMark key={bar.track?.id ?? SUM} bar={bar} x={at(n)} width={Math.min(56, step * 0.66)} zero={y(0)} end={clamp(bar.best.value)} latest={clamp(bar.latest.value)} bottom={HEIGHT} words={words} crowded={step < 44} letters={Math.max(3, Math.floor(step / 7))} className={dim(highlight, bar.track?.id ?? SUM)} />
        ))}
      </ChartBox>
      {fresh.length > 0 && (
        <p className="mfu-note">{words.t('chart.without', { lesions: fresh.map((track) => track.label).join(', ') })}</p>
      )}
    </div>
  );
}

interface BarMarkProps {
  bar: Bar;
  x: number;
  width: number;
  zero: number;
  end: number;
  latest: number;
  bottom: number;
  crowded: boolean;
  letters: number;
  className: string;
  words: ChartProps['words'];
}

function BarMark({ bar, x, width, zero, end, latest, bottom, crowded, letters, className, words }: BarMarkProps) {
  const [from, to] = [Math.min(zero, end), Math.max(zero, end)];
  const above = end <= zero;
  return (
    <g className={`mfu-series ${className}`} style={{ color: bar.track ? trackColour(bar.track) : 'var(--mfu-ink)' }} data-cy={`mfu-bar-${bar.track?.label ?? SUM}`}>
      <rect className="mfu-bar" x={x - width / 2} width={width} y={from} height={Math.max(1.5, to - from)} />
      <line className="mfu-latest" x1={x - width / 2 - 4} x2={x + width / 2 + 4} y1={latest} y2={latest} />
      {!crowded && (
        <text className="mfu-label mfu-plain" x={x} y={above ? end - 6 : end + 14} textAnchor="middle">
          {words.number(bar.best.value, 0)}
        </text>
      )}
      <text className="mfu-label" x={x} y={bottom - 6} textAnchor="middle">
        {bar.track ? shortLabel(bar.track.label, letters) : words.t('chart.sum')}
      </text>
    </g>
  );
}

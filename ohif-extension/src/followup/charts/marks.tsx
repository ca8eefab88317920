/** Points, gaps and lines of one lesion, or of the sum. */
import { line as lineShape } from 'd3-shape';
import type { Gap, Line, LinePoint } from '../shape/timeline';
import type { TimeScale, ValueScale } from './Axes';
import { shapePath } from './look';

interface LineMarksProps {
  line: Line;
  x: TimeScale;
  y: ValueScale;
  colour: string;
  shape: number;
  className: string;
}

/** Where the mark of a gap stands: on the bridge over it, or at the height of the last value. */
export function gapHeight(line: Line, gap: Gap): number | null {
  const bridge = line.bridges.find(([from, to]) => from.time <= gap.time && gap.time <= to.time);
  if (bridge) {
    const [from, to] = bridge;
    const share = to.time === from.time ? 0 : (gap.time - from.time) / (to.time - from.time);
    return from.value + (to.value - from.value) * share;
  }
  return line.points.filter((point) => point.time <= gap.time).at(-1)?.value ?? null;
}

export function LineMarks({ line, x, y, colour, shape, className }: LineMarksProps) {
  const path = lineShape<LinePoint>()
    .x((point) => x(point.time))
    .y((point) => y(point.value));
  const bridges = [...line.bridges, ...trailing(line)];
  return (
    <g className={className} style={{ color: colour }}>
      {bridges.map(([from, to]) => (
        <line key={from.time} className="mfu-bridge" x1={x(from.time)} y1={y(from.value)} x2={x(to.time)} y2={y(to.value)} />
      ))}
      {line.runs.map((run) => (
        <path key={run[0]!.studyUid} className="mfu-line" d={path(run) ?? ''} />
      ))}
      {line.gaps.map((gap) => (
        <GapMark key={gap.studyUid} gap={gap} x={x(gap.time)} y={y(gapHeight(line, gap) ?? 0)} />
      ))}
      {line.points.map((point) => (
        <g key={point.studyUid} transform={`translate(${x(point.time)} ${y(point.value)})`}>
          {point.pending && <circle className="mfu-pending" r={8} />}
          <path className={point.assumed ? 'mfu-point mfu-assumed' : 'mfu-point'} d={shapePath(shape, 52)} />
        </g>
      ))}
    </g>
  );
}

/** A stub to the last visit that has no value. */
function trailing(line: Line): [LinePoint, LinePoint][] {
  const last = line.points.at(-1);
  const end = line.gaps.at(-1);
  if (!last || !end || end.time <= last.time || end.why === 'merged' || end.why === 'split') return [];
  return [[last, { ...last, time: end.time }]];
}

function GapMark({ gap, x, y }: { gap: Gap; x: number; y: number }) {
  if (gap.why === 'merged' || gap.why === 'split') return <path className="mfu-end" d={`M${x} ${y - 6}v12M${x - 4} ${y - 6}v12`} />;
  return <path className="mfu-gap" d={`M${x - 4.5} ${y - 4.5}l9 9m0 -9l-9 9`} />;
}

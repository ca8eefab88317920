/**
 * The frame of a chart: its size, its tooltip, and the cursor that pointer and keys move.
 *
 * One stop of the Tab key a chart; arrows go from point to point. What the tooltip says is
 * also read out. Texts are React nodes, never markup made from names.
 */
import { useEffect, useId, useRef, useState, type KeyboardEvent, type PointerEvent, type ReactNode } from 'react';
import { isSame, moveCursor, nearestPoint, type ChartPoint } from '../shape/cursor';
import type { PageWords } from '../words';

const REACH_PX = 28;
const TIP_WIDTH_PX = 240;
const KEYS = new Set(['ArrowRight', 'ArrowLeft', 'ArrowUp', 'ArrowDown', 'Home', 'End']);

/** The width an element has; the first guess holds until it has been laid out. */
export function useWidth(first: number): [(element: HTMLElement | null) => void, number] {
  const [width, setWidth] = useState(first);
  const [element, setElement] = useState<HTMLElement | null>(null);
  useEffect(() => {
    if (!element) return undefined;
    const observer = new ResizeObserver(([entry]) => {
      const found = Math.round(entry?.contentRect.width ?? 0);
      if (found > 0) setWidth(found);
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [element]);
  return [setElement, width];
}

export interface ChartBoxProps {
  name: string;
  title: string;
  note?: string;
  width: number;
  height: number;
  points: readonly ChartPoint[];
  words: PageWords;
  tip: (point: ChartPoint) => ReactNode;
  onOpen: (point: ChartPoint) => void;
  onHighlight: (series: string | null) => void;
  children: ReactNode;
}

export function ChartBox({ name, title, note, width, height, points, words, tip, onOpen, onHighlight, children }: ChartBoxProps) {
  const [cursor, setCursor] = useState<ChartPoint | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const hint = useId();
  // The point as it is drawn now: data or size may have changed under the cursor.
  const active = cursor && (points.find((point) => isSame(point, cursor)) ?? null);
  const point = (next: ChartPoint | null) => {
    if (isSame(next, cursor) || (!next && !cursor)) return;
    setCursor(next);
    onHighlight(next?.series ?? null);
  };
  const under = (event: PointerEvent): ChartPoint | null => {
    const frame = box.current?.getBoundingClientRect();
    return frame ? nearestPoint(points, event.clientX - frame.left, event.clientY - frame.top, REACH_PX) : null;
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (KEYS.has(event.key)) point(moveCursor(points, active, event.key));
    else if (event.key === 'Enter' && active) onOpen(active);
    else if (event.key === 'Escape' && active) point(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div
      ref={box}
      className="mfu-chart"
      data-cy={`mfu-chart-${name}`}
      role="application"
      aria-label={note ? `${title}. ${note}` : title}
      aria-describedby={hint}
      tabIndex={0}
      style={{ cursor: active ? 'pointer' : 'default' }}
      onKeyDown={onKeyDown}
      onBlur={() => point(null)}
      onPointerMove={(event) => point(under(event))}
      onPointerLeave={() => point(null)}
      onClick={() => active && onOpen(active)}
    >
      <svg viewBox={`0 0 ${width} ${height}`} width={width} height={height} aria-hidden="true">
        {children}
        {active && <circle className="mfu-cursor" cx={active.x} cy={active.y} r={9} />}
      </svg>
      <span id={hint} className="mfu-hidden">
        {words.t('chart.keys')}
      </span>
      <div className="mfu-live" aria-live="polite">
        {active && (
          <div
            className="mfu-tip"
            data-cy="mfu-tip"
            style={{
              width: TIP_WIDTH_PX,
              left: Math.max(0, Math.min(width - TIP_WIDTH_PX, active.x - TIP_WIDTH_PX / 2)),
              ...(active.y > height / 2 ? { bottom: height - active.y + 14 } : { top: active.y + 14 }),
            }}
          >
            {tip(active)}
          </div>
        )}
      </div>
    </div>
  );
}

/** The lesions as buttons that show and hide them, and what the signs of the chart mean. */
import { shapePath, trackColour } from '../charts/look';
import type { Course, Metric } from '../shape/course';
import type { PageWords } from '../words';

interface LegendProps {
  course: Course;
  metric: Metric;
  hidden: ReadonlySet<string>;
  setHidden: (hidden: ReadonlySet<string>) => void;
  highlight: string | null;
  setHighlight: (track: string | null) => void;
  words: PageWords;
}

export function Legend({ course, metric, hidden, setHidden, highlight, setHighlight, words }: LegendProps) {
  const toggle = (id: string) => {
    const next = new Set(hidden);
    if (!next.delete(id)) next.add(id);
    setHidden(next);
  };
  return (
    <div className="mfu-legend">
      <ul>
        {course.tracks.map((track, n) => {
          const off = hidden.has(track.id);
          return (
            <li key={track.id}>
              <button
                type="button"
                className={highlight === track.id ? 'mfu-chip mfu-on' : 'mfu-chip'}
                aria-pressed={!off}
                aria-label={words.t(off ? 'chart.show' : 'chart.hide', { lesion: track.label })}
                title={words.said('role', track.role ?? 'none')}
                onClick={() => toggle(track.id)}
                onPointerEnter={() => setHighlight(track.id)}
                onPointerLeave={() => setHighlight(null)}
              >
                <svg viewBox="-8 -8 16 16" width="14" height="14" aria-hidden="true" style={{ color: trackColour(track) }}>
                  <path d={shapePath(n, 90)} fill="currentColor" />
                </svg>
                {track.label}
                {track.role && <span className={`mfu-role mfu-role-${track.role}`}>{words.t(`table.mark.${track.role}`)}</span>}
              </button>
            </li>
          );
        })}
        {hidden.size > 0 && (
          <li>
            <button type="button" className="mfu-chip" onClick={() => setHidden(new Set())}>
              {words.t('chart.all')}
            </button>
          </li>
        )}
      </ul>
      <ul className="mfu-signs">
        <Sign text={words.t(`chart.response.long.${metric}`)} className="mfu-key-response" />
        <Sign text={words.t(`chart.progression.long.${metric}`)} className="mfu-key-progression" />
        <li>
          <svg viewBox="-8 -8 16 16" width="14" height="14" aria-hidden="true">
            <path className="mfu-gap" d="M-4.5 -4.5l9 9m0 -9l-9 9" />
          </svg>
          {words.t('chart.gap')}
        </li>
        <li>
          <svg viewBox="-8 -8 16 16" width="14" height="14" aria-hidden="true">
            <path className="mfu-point mfu-assumed" d={shapePath(0, 52)} />
          </svg>
          {words.t('chart.assumed')}
        </li>
        <li>
          <svg viewBox="-8 -8 16 16" width="14" height="14" aria-hidden="true">
            <circle className="mfu-pending" r="6.5" />
          </svg>
          {words.t('chart.pending')}
        </li>
      </ul>
    </div>
  );
}

function Sign({ text, className }: { text: string; className: string }) {
  return (
    <li>
      <span className={`mfu-key ${className}`} aria-hidden="true" />
      {text}
    </li>
  );
}

/** When to ask about a job again. */
export const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 4000;
const LONGEST_OFFLINE_DELAY_MS = 15000;

export type Answer = 'changed' | 'same' | 'offline';

/** Quick while something moves, slower while nothing does, slowest while nobody answers. */
export function nextDelay(previous_ms: number, answer: Answer): number {
  if (answer === 'changed') return FIRST_DELAY_MS;
  const longest = answer === 'offline' ? LONGEST_OFFLINE_DELAY_MS : LONGEST_DELAY_MS;
  return Math.min(longest, Math.max(FIRST_DELAY_MS, previous_ms) * (answer === 'offline' ? 2 : 1.5));
}

/** Wait; ends early (rejecting with AbortError) when the signal comes. */
export function pause(delay_ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = () => {
      clearTimeout(timer);
      reject(new DOMException('stopped', 'AbortError'));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', aborted);
      resolve();
    }, delay_ms);
    if (signal.aborted) aborted();
    else signal.addEventListener('abort', aborted, { once: true });
  });
}

/** Wait until the page can be seen; at once where it can. */
export function whenVisible(signal: AbortSignal, page: Document = document): Promise<void> {
  if (page.visibilityState !== 'hidden') return Promise.resolve();
  return new Promise((resolve, reject) => {
    const stop = () => {
      page.removeEventListener('visibilitychange', changed);
      signal.removeEventListener('abort', aborted);
    };
    const changed = () => {
      if (page.visibilityState === 'hidden') return;
      stop();
      resolve();
    };
    const aborted = () => {
      stop();
      reject(new DOMException('stopped', 'AbortError'));
    };
    page.addEventListener('visibilitychange', changed);
    signal.addEventListener('abort', aborted, { once: true });
  });
}

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FIRST_DELAY_MS, nextDelay, pause, whenVisible } from '../src/state/poll';

describe('the delay', () => {
  it('grows while nothing changes and is short again after a change', () => {
    let delay_ms = FIRST_DELAY_MS;
    for (let n = 0; n < 20; n += 1) delay_ms = nextDelay(delay_ms, 'same');
    expect(delay_ms).toBe(4000);
    expect(nextDelay(delay_ms, 'changed')).toBe(FIRST_DELAY_MS);
  });

  it('is longest while the server does not answer', () => {
    let delay_ms = FIRST_DELAY_MS;
    for (let n = 0; n < 20; n += 1) delay_ms = nextDelay(delay_ms, 'offline');
    expect(delay_ms).toBe(15000);
  });
});

describe('waiting', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('ends at once when stopped', async () => {
    const stop = new AbortController();
    const waiting = expect(pause(60_000, stop.signal)).rejects.toThrow('stopped');
    stop.abort();
    await waiting;
    await expect(pause(1, stop.signal)).rejects.toThrow('stopped');
  });

  it('goes on when the page is seen again', async () => {
    const page = Object.assign(new EventTarget(), { visibilityState: 'hidden' });
    let done = false;
    const waiting = whenVisible(new AbortController().signal, page as unknown as Document).then(() => (done = true));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(done).toBe(false);
    page.visibilityState = 'visible';
    page.dispatchEvent(new Event('visibilitychange'));
    await waiting;
    expect(done).toBe(true);
  });
});

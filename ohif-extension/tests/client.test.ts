import { describe, expect, it, vi } from 'vitest';
import { ApiClient } from '../src/api/client';
import { Problem } from '../src/api/problem';
import { job, MODELS, SESSION } from './fixtures';

type Sent = { url: string; init: RequestInit };

function client(...answers: (Response | Error)[]) {
  const sent: Sent[] = [];
  const fetch = vi.fn(async (url: string, init: RequestInit) => {
    sent.push({ url, init });
    const answer = answers.shift();
    if (!answer || answer instanceof Error) throw answer ?? new Error('too many requests');
    return answer;
  }) as unknown as typeof globalThis.fetch;
  return { api: new ApiClient({ base: '/api/v1', authorization: () => ({}), fetch }), sent };
}

const json = (body: unknown, init: ResponseInit = {}) => new Response(JSON.stringify(body), init);
const header = (sent: Sent | undefined, name: string) => new Headers(sent?.init.headers).get(name);
const signal = new AbortController().signal;

describe('the client', () => {
  it('sends the token of the session with every change, and with no reading', async () => {
    const { api, sent } = client(json(SESSION), json({ models: MODELS }), json(job()));
    await api.session();
    await api.models();
    await api.start('2.25.1', '2.25.5', 'other');
    expect(header(sent[1], 'X-CSRF-Token')).toBeNull();
    expect(header(sent[2], 'X-CSRF-Token')).toBe('token');
    expect(JSON.parse(String(sent[2]?.init.body))).toEqual({ study_uid: '2.25.1', series_uid: '2.25.5', model: 'other' });
  });

  it('renews a stale token once', async () => {
    const refused = () => json({ code: 'csrf-failed', title: 't' }, { status: 403 });
    const { api, sent } = client(refused(), json(SESSION), json(job()));
    await api.start('2.25.1', null, null);
    expect(sent.map((request) => request.url)).toEqual(['/api/v1/jobs', '/api/v1/session', '/api/v1/jobs']);
    const again = client(refused(), json(SESSION), refused());
    await expect(again.api.start('2.25.1', null, null)).rejects.toMatchObject({ code: 'csrf-failed' });
  });

  it('asks whether a job has changed since', async () => {
    const { api, sent } = client(json(job(), { headers: { ETag: '"a"' } }), new Response(null, { status: 304 }));
    expect(await api.job('j', signal)).toMatchObject({ id: 'j' });
    expect(await api.job('j', signal)).toBeNull();
    expect(header(sent[1], 'If-None-Match')).toBe('"a"');
  });

  it('finds the active job among those of a study', async () => {
    const jobs = [job({ id: 'a', state: 'failed' }), job({ id: 'b', state: 'queued' })];
    const { api } = client(json({ jobs, next_cursor: null }), json({ jobs: [], next_cursor: null }));
    expect((await api.activeJob('2.25.1'))?.id).toBe('b');
    expect(await api.activeJob('2.25.1')).toBeNull();
  });

  it('gives the problem the server describes', async () => {
    const body = { code: 'archive-unavailable', title: 'T', detail: 'D', remedy: 'R', request_id: 'q' };
    const { api } = client(json(body, { status: 503 }));
    const problem = await api.series('2.25.1').catch((error: unknown) => error);
    expect(problem).toBeInstanceOf(Problem);
    expect(problem).toMatchObject({ code: 'archive-unavailable', detail: 'D', remedy: 'R', requestId: 'q', status: 503 });
  });

  it('makes a problem of an answer that is not JSON, and of none', async () => {
    const { api } = client(new Response('<html>', { status: 502 }), new TypeError('Failed to fetch'));
    await expect(api.series('2.25.1')).rejects.toMatchObject({ code: 'not-ready', status: 502 });
    await expect(api.series('2.25.1')).rejects.toMatchObject({ code: 'network' });
  });

  it('never lets an identifier change the address', async () => {
    const { api, sent } = client(json({ results: [] }));
    await api.results('../users?x=1');
    expect(sent[0]?.url).toBe('/api/v1/studies/..%2Fusers%3Fx%3D1/results');
  });
});

/**
 * The HTTP calls of the panel. One client per page; it keeps the CSRF token of the session.
 *
 * Every failure is a `Problem`: `network` where no answer came, else what the server said.
 */
import { localProblem, readProblem, Problem } from './problem';
import { isActive } from '../state/state';
import type { Job, Model, Result, Session, StudySeries } from './types';

export interface Api {
  session(): Promise<Session>;
  logOut(): Promise<void>;
  series(studyUid: string): Promise<StudySeries>;
  models(): Promise<Model[]>;
  /** Series and model: null where the service shall choose. */
  start(studyUid: string, seriesUid: string | null, model: string | null): Promise<Job>;
  /** The job, or null where it has not changed since the last call. */
  job(id: string, signal: AbortSignal): Promise<Job | null>;
  activeJob(studyUid: string): Promise<Job | null>;
  cancel(id: string): Promise<Job>;
  /** Say that a study was opened: its images may be fetched ahead of a press. */
  opened(studyUid: string): Promise<void>;
  results(studyUid: string): Promise<Result[]>;
  result(id: string): Promise<Result>;
}

export interface Request {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  body?: unknown;
  form?: FormData;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

export interface ClientOptions {
  base: string;
  /** Headers of the viewer's own login (none with a session cookie). */
  authorization: () => Record<string, string>;
  fetch?: typeof fetch;
}

const segment = encodeURIComponent;

export class ApiClient implements Api {
  private csrf = '';
  private readonly etags = new Map<string, string>();
  private readonly fetch: typeof fetch;

  constructor(private readonly options: ClientOptions) {
    this.fetch = options.fetch ?? ((...args) => fetch(...args));
  }

  async session(): Promise<Session> {
    const session = await this.json<Session>('/session');
    this.csrf = session.csrf_token ?? '';
    return session;
  }

  async logOut(): Promise<void> {
    await this.send('/session', { method: 'DELETE' });
  }

  series(studyUid: string): Promise<StudySeries> {
    return this.json(`/studies/${segment(studyUid)}/series`);
  }

  async models(): Promise<Model[]> {
    return (await this.json<{ models: Model[] }>('/models')).models;
  }

  start(studyUid: string, seriesUid: string | null, model: string | null): Promise<Job> {
    const body = {
      study_uid: studyUid,
      ...(seriesUid ? { series_uid: seriesUid } : {}),
      ...(model ? { model } : {}),
    };
    return this.json('/jobs', { method: 'POST', body });
  }

  async job(id: string, signal: AbortSignal): Promise<Job | null> {
    const etag = this.etags.get(id);
    const response = await this.send(`/jobs/${segment(id)}`, {
      signal,
      ...(etag ? { headers: { 'If-None-Match': etag } } : {}),
    });
    if (response.status === 304) return null;
    const fresh = response.headers.get('ETag');
    if (fresh) this.etags.set(id, fresh);
    return (await response.json()) as Job;
  }

  async activeJob(studyUid: string): Promise<Job | null> {
    const { jobs } = await this.json<{ jobs: Job[] }>(`/jobs?study_uid=${segment(studyUid)}&limit=50`);
    // Aligning a patient's visits is a job too, but none that a reader waits for.
    return jobs.find((job) => isActive(job) && job.kind !== 'follow') ?? null;
  }

  cancel(id: string): Promise<Job> {
    return this.json(`/jobs/${segment(id)}/cancel`, { method: 'POST' });
  }

  async opened(studyUid: string): Promise<void> {
    await this.send(`/studies/${segment(studyUid)}/opened`, { method: 'POST' });
  }

  async results(studyUid: string): Promise<Result[]> {
    return (await this.json<{ results: Result[] }>(`/studies/${segment(studyUid)}/results`)).results;
  }

  result(id: string): Promise<Result> {
    return this.json(`/results/${segment(id)}`);
  }

  protected async json<T>(path: string, request: Request = {}): Promise<T> {
    return (await (await this.send(path, request)).json()) as T;
  }

  /** Send once; a stale CSRF token (the session was renewed elsewhere) is fetched anew once. */
  protected async send(path: string, request: Request = {}): Promise<Response> {
    try {
      return await this.sendOnce(path, request);
    } catch (error) {
      const stale = error instanceof Problem && error.code === 'csrf-failed' && request.method;
      if (!stale) throw error;
      await this.session();
      return this.sendOnce(path, request);
    }
  }

  private async sendOnce(path: string, request: Request): Promise<Response> {
    const method = request.method ?? 'GET';
    const headers: Record<string, string> = {
      Accept: 'application/json, application/problem+json',
      ...this.options.authorization(),
      ...request.headers,
    };
    if (method !== 'GET') headers['X-CSRF-Token'] = this.csrf;
    if (request.body !== undefined) headers['Content-Type'] = 'application/json';
    let response: Response;
    try {
      response = await this.fetch(this.options.base + path, {
        method,
        headers,
        credentials: 'same-origin',
        cache: 'no-store',
        ...(request.form ? { body: request.form } : {}),
        ...(request.body !== undefined ? { body: JSON.stringify(request.body) } : {}),
        ...(request.signal ? { signal: request.signal } : {}),
      });
    } catch (error) {
      if (error instanceof DOMException && error.name === 'AbortError') throw error;
      throw localProblem('network');
    }
    if (!response.ok && response.status !== 304) throw await readProblem(response);
    return response;
  }
}

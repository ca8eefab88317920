/** What went wrong, as the panel shows it: a stable code with the server's own words as fallback. */
export interface ProblemFacts {
  code: string;
  title: string;
  detail: string;
  remedy: string;
  status?: number;
  requestId?: string | null;
  /** Further members of the answer, such as who else has written meanwhile. */
  facts?: Readonly<Record<string, unknown>>;
}

export class Problem extends Error implements ProblemFacts {
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  readonly remedy: string;
  readonly status: number;
  readonly requestId: string | null;
  readonly facts: Readonly<Record<string, unknown>>;

  constructor(facts: ProblemFacts) {
    super(`${facts.code}: ${facts.title}`);
    this.name = 'Problem';
    this.code = facts.code;
    this.title = facts.title;
    this.detail = facts.detail;
    this.remedy = facts.remedy;
    this.status = facts.status ?? 0;
    this.requestId = facts.requestId ?? null;
    this.facts = facts.facts ?? {};
  }
}

export type LocalCode =
  | 'network' | 'viewer-images-missing' | 'viewer-overlay-failed' | 'viewer-nothing-to-save' | 'viewer-compare-failed'
  | 'internal';

/** A problem found here and not by the server; its words are in the dictionaries. */
export function localProblem(code: LocalCode, detail = ''): Problem {
  return new Problem({ code, title: code, detail, remedy: '' });
}

/** Whatever was thrown, as a problem. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return localProblem('internal', error instanceof Error ? error.message : String(error));
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Read an RFC 9457 answer; anything else (a proxy's HTML page) still gives a usable problem. */
export async function readProblem(response: Response): Promise<Problem> {
  let body: Record<string, unknown> = {};
  try {
    const parsed: unknown = await response.json();
    if (parsed && typeof parsed === 'object') body = parsed as Record<string, unknown>;
  } catch {
    // not JSON: the status has to do
  }
  return new Problem({
    code: text(body.code) || codeOfStatus(response.status),
    title: text(body.title) || `HTTP ${response.status}`,
    detail: text(body.detail),
    remedy: text(body.remedy),
    status: response.status,
    requestId: text(body.request_id) || response.headers.get('X-Request-ID'),
    facts: body,
  });
}

function codeOfStatus(status: number): string {
  if (status === 401) return 'not-authenticated';
  if (status === 403) return 'forbidden';
  if (status === 404) return 'not-found';
  if (status === 413) return 'too-large';
  if (status === 429) return 'too-many-requests';
  return status === 502 || status === 503 || status === 504 ? 'not-ready' : 'internal';
}

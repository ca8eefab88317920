/**
 * Addresses of the page and of the viewer, and moving between them without a reload.
 *
 * A patient is named by MetIA's own key and by nothing else. The page lives under one
 * route of the viewer, so going from patient to patient keeps it mounted.
 */
import { useSyncExternalStore, type MouseEvent } from 'react';
import { LESION_PARAMETER, ROUTE } from '../id';
import type { Metric } from './shape/course';

export const BASE = '/followup';

export interface Place {
  patient: string | null;
  /** Asked by study (from the study list): answered by the address of its patient. */
  study: string | null;
  metric: Metric;
  /** Criteria to read by; null: those of the patient's plan. */
  rules: string | null;
}

export type View = Pick<Place, 'metric' | 'rules'>;
const PLAIN: View = { metric: 'diameter', rules: null };

export function readPlace(location: { pathname: string; search: string }): Place {
  const query = new URLSearchParams(location.search);
  const rest = location.pathname.split(`${BASE}/`)[1] ?? '';
  return {
    patient: decode(rest.split('/')[0] ?? '') || null,
    study: query.get('study'),
    metric: query.get('size') === 'volume' ? 'volume' : 'diameter',
    rules: query.get('rules'),
  };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return ''; // not an address of ours
  }
}

export function patientAddress(patient: string, { metric, rules }: View = PLAIN): string {
  const query = new URLSearchParams();
  if (metric === 'volume') query.set('size', metric);
  if (rules) query.set('rules', rules);
  const tail = query.size > 0 ? `?${query}` : '';
  return `${BASE}/${encodeURIComponent(patient)}${tail}`;
}

export function studyFollowup(studyUid: string): string {
  return `${BASE}?${new URLSearchParams({ study: studyUid })}`;
}

export interface Target {
  studyUid: string;
  seriesUid?: string | null;
  sopInstanceUid?: string | null;
  lesionId?: string | null;
}

/** The viewer in our mode at a study; at the slice of a lesion where there is one. */
export function viewerAddress({ studyUid, seriesUid, sopInstanceUid, lesionId }: Target): string {
  const query = new URLSearchParams({ StudyInstanceUIDs: studyUid });
  if (seriesUid) query.set('initialSeriesInstanceUID', seriesUid);
  if (sopInstanceUid) query.set('initialSopInstanceUID', sopInstanceUid);
  if (lesionId) query.set(LESION_PARAMETER, lesionId);
  return `/${ROUTE}?${query}`;
}

export type Go = (address: string, options?: { replace?: boolean }) => void;

/** The browser's address as something to subscribe to; `go` is the viewer's own navigation. */
export class Places {
  private readonly listeners = new Set<() => void>();

  constructor(private readonly navigate: Go) {}

  readonly go: Go = (address, options) => {
    this.navigate(address, options);
    for (const listener of [...this.listeners]) listener();
  };

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    window.addEventListener('popstate', listener);
    return () => {
      this.listeners.delete(listener);
      window.removeEventListener('popstate', listener);
    };
  };

  /** For links: a plain click goes without a reload, any other is left to the browser. */
  readonly link = (address: string) => ({
    href: address,
    onClick: (event: MouseEvent) => {
      if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      this.go(address);
    },
  });
}

export function usePlace(places: Places): Place {
  const href = useSyncExternalStore(places.subscribe, () => window.location.pathname + window.location.search);
  const url = new URL(href, 'http://here');
  return readPlace(url);
}

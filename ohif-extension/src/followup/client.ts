/**
 * The HTTP calls of the follow-up page, on the client of the panel (session, CSRF, problems).
 */
import { ApiClient } from '../api/client';
import type { components } from '../api/schema';
import type { Course } from './shape/course';

type Schemas = components['schemas'];
export type PlanInput = Schemas['PlanInput'];
export type EventInput = Schemas['EventInput'];
export type UpdateAnswer = Schemas['BroughtUpToDate'];

export type ExportFormat = 'pdf' | 'csv' | 'xlsx' | 'fhir';

export interface ExportOptions {
  rules: string;
  language: string;
  /** With the name and the numbers of the patient. */
  identifiers: boolean;
}

export interface ExportedFile {
  name: string;
  content: Blob;
}

const PAGE_SIZE = 50;
const segment = encodeURIComponent;
/** Other criteria than those of the patient's plan. */
const by = (rules: string | null) => (rules ? `?rule_set=${segment(rules)}` : '');

export class FollowupClient extends ApiClient {
  patients(search: string, cursor: string | null, signal: AbortSignal): Promise<Schemas['Patients']> {
    const query = new URLSearchParams({ limit: String(PAGE_SIZE) });
    if (search) query.set('search', search);
    if (cursor) query.set('cursor', cursor);
    return this.json(`/patients?${query}`, { signal });
  }

  course(patient: string, rules: string | null, signal: AbortSignal): Promise<Course> {
    return this.json(`/patients/${segment(patient)}/course${by(rules)}`, { signal });
  }

  courseOfStudy(studyUid: string, rules: string | null, signal: AbortSignal): Promise<Course> {
    return this.json(`/studies/${segment(studyUid)}/course${by(rules)}`, { signal });
  }

  savePlan(patient: string, rules: string | null, plan: PlanInput): Promise<Course> {
    return this.json(`/patients/${segment(patient)}/plan${by(rules)}`, { method: 'PUT', body: plan });
  }

  addEvent(patient: string, rules: string | null, event: EventInput): Promise<Course> {
    return this.json(`/patients/${segment(patient)}/events${by(rules)}`, { method: 'POST', body: event });
  }

  removeEvent(patient: string, rules: string | null, event: string): Promise<Course> {
    return this.json(`/patients/${segment(patient)}/events/${segment(event)}${by(rules)}`, { method: 'DELETE' });
  }

  update(patient: string): Promise<UpdateAnswer> {
    return this.json(`/patients/${segment(patient)}/update`, { method: 'POST' });
  }

  async export(patient: string, format: ExportFormat, options: ExportOptions): Promise<ExportedFile> {
    const query = new URLSearchParams({ rule_set: options.rules, identifiers: String(options.identifiers) });
    if (format === 'pdf') query.set('language', options.language);
    const address = `/patients/${segment(patient)}/export/${format}?${query}`;
    const response = await this.send(address, { headers: { Accept: '*/*' } });
    const disposition = response.headers.get('Content-Disposition') ?? '';
    const name = /filename="?([^";]+)"?/.exec(disposition)?.[1] ?? `follow-up.${format === 'fhir' ? 'json' : format}`;
    return { name, content: await response.blob() };
  }
}

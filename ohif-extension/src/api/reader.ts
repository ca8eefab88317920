/**
 * The calls by which a reader decides: review, corrections, links, inputs, signature, exports.
 *
 * What concerns the course of the patient answers with the whole course, computed anew.
 */
import { ApiClient, type Api } from './client';
import type { Course } from './course';
import { Problem } from './problem';
import type {
  Download, LinkRequest, ReadingRequest, ReviewRequest, SignRequest, TrackReadingRequest, TrackRequest, Updated,
} from './requests';
import type { Result } from './types';

export interface ReaderApi extends Api {
  /** The patient's course, or null while no visit of the study has a result. */
  course(studyUid: string): Promise<Course | null>;
  saveReading(studyUid: string, reading: ReadingRequest): Promise<Course>;
  changeTrack(trackId: string, change: TrackRequest): Promise<Course>;
  readTrack(trackId: string, studyUid: string, reading: TrackReadingRequest): Promise<Course>;
  link(patientId: string, link: LinkRequest): Promise<Course>;
  undoLink(patientId: string): Promise<Course>;
  sign(studyUid: string, assessment: SignRequest): Promise<void>;
  bringUpToDate(patientId: string): Promise<Updated>;
  /** Accept, reject, rename or delete lesions; a rename or deletion gives a new version. */
  review(resultId: string, change: ReviewRequest): Promise<Result>;
  /** Make the version before this one count again. */
  restore(resultId: string, revision: number): Promise<Result>;
  /** Send edited voxels; gives the new version. */
  correct(resultId: string, description: object, labels: Blob): Promise<Result>;
  storeExports(resultId: string, formats: string[]): Promise<void>;
  download(path: string): Promise<Download>;
}

const part = encodeURIComponent;

export class ReaderClient extends ApiClient implements ReaderApi {
  async course(studyUid: string): Promise<Course | null> {
    try {
      return await this.json<Course>(`/studies/${part(studyUid)}/course`);
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return null;
      throw error;
    }
  }

  saveReading(studyUid: string, body: ReadingRequest): Promise<Course> {
    return this.json(`/studies/${part(studyUid)}/reading`, { method: 'PUT', body });
  }

  changeTrack(trackId: string, body: TrackRequest): Promise<Course> {
    return this.json(`/tracks/${part(trackId)}`, { method: 'PATCH', body });
  }

  readTrack(trackId: string, studyUid: string, body: TrackReadingRequest): Promise<Course> {
    return this.json(`/tracks/${part(trackId)}/studies/${part(studyUid)}`, { method: 'PUT', body });
  }

  link(patientId: string, body: LinkRequest): Promise<Course> {
    return this.json(`/patients/${part(patientId)}/links`, { method: 'POST', body });
  }

  undoLink(patientId: string): Promise<Course> {
    return this.json(`/patients/${part(patientId)}/links/undo`, { method: 'POST', body: {} });
  }

  async sign(studyUid: string, body: SignRequest): Promise<void> {
    await this.send(`/studies/${part(studyUid)}/assessments`, { method: 'POST', body });
  }

  bringUpToDate(patientId: string): Promise<Updated> {
    return this.json(`/patients/${part(patientId)}/update`, { method: 'POST' });
  }

  review(resultId: string, body: ReviewRequest): Promise<Result> {
    return this.json(`/results/${part(resultId)}`, { method: 'PATCH', body });
  }

  restore(resultId: string, revision: number): Promise<Result> {
    return this.json(`/results/${part(resultId)}/restore`, { method: 'POST', body: { revision } });
  }

  correct(resultId: string, description: object, labels: Blob): Promise<Result> {
    const form = new FormData();
    form.append('description', JSON.stringify(description));
    form.append('labels', labels, 'labels.gz');
    return this.json(`/results/${part(resultId)}/corrections`, { method: 'POST', form });
  }

  async storeExports(resultId: string, formats: string[]): Promise<void> {
    await this.send(`/results/${part(resultId)}/export`, { method: 'POST', body: { formats, store: true } });
  }

  async download(path: string): Promise<Download> {
    const response = await this.send(path, { headers: { Accept: '*/*' } });
    const named = /filename="?([^";]+)"?/.exec(response.headers.get('Content-Disposition') ?? '')?.[1];
    return { content: await response.blob(), name: named ?? path.split('/').pop() ?? 'export' };
  }
}

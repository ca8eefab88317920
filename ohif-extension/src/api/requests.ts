/** What the reader's decisions look like on their way to the server. */
import type { TrackReading, VisitReading } from './course';

/** A reading replaces the one before it as a whole. */
export type ReadingRequest = Omit<VisitReading, 'author' | 'missing'>;

export interface TrackRequest {
  revision: number;
  label?: string;
  role?: 'target' | 'non_target' | null;
  kind?: string;
}

/** Replaces what was said of the lesion at the visit as a whole; the revision is the track's. */
export type TrackReadingRequest = Partial<Omit<TrackReading, 'author'>> & { revision: number };

export interface LinkRequest {
  study_uid: string;
  lesion_id: string;
  action: 'link' | 'new' | 'unlink' | 'confirm';
  track_id?: string;
}

export interface SignRequest {
  rule_set: string;
  category: string | null;
  comment: string;
  inputs_sha256: string;
}

export interface LesionChange {
  id: string;
  review?: 'unverified' | 'accepted' | 'rejected';
  name?: string;
  deleted?: boolean;
}

export interface ReviewRequest {
  revision: number;
  state?: 'accepted' | 'rejected' | 'unverified';
  lesions?: LesionChange[];
}

export interface Updated {
  queued: string[];
  up_to_date: number;
  skipped: { study_uid: string; code: string }[];
}

export interface Download {
  content: Blob;
  name: string;
}

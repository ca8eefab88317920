/** The shapes of /api/v1, as the viewer uses them. */
export interface User {
  name: string;
  display_name: string;
  role: 'viewer' | 'annotator' | 'reviewer' | 'admin';
}
export interface Session {
  user: User;
  csrf_token: string;
}
export interface Reason {
  code: string;
  effect: number;
  text: string;
}
export interface SeriesCandidate {
  series_uid: string;
  series_number: number | null;
  description: string;
  modality: string;
  instance_count: number;
  score: number;
  suitable: boolean;
  reasons: Reason[];
}
export interface StudySeries {
  study_uid: string;
  chosen: string | null;
  candidates: SeriesCandidate[];
  refusal: { code: string; detail: string } | null;
}
export type JobState = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled';
export interface Job {
  id: string;
  state: JobState;
  step: string | null;
  progress: number;
  attempt: number;
  max_attempts: number;
  study_uid: string;
  series_uid: string | null;
  model: string | null;
  cancel_requested: boolean;
  error: { code: string; title: string; detail: string; remedy: string } | null;
  result_id: string | null;
  queue_position: number | null;
  created_at: string;
}
export type Point = [number, number, number];
export interface Lesion {
  id: string;
  segment_number: number;
  name: string;
  longest_diameter_mm: number;
  perpendicular_diameter_mm: number;
  volume_ml: number;
  probability: number;
  slice_count: number;
  sop_instance_uid: string;
  frame_number: number | null;
  long_axis_mm: [Point, Point];
  short_axis_mm: [Point, Point];
  centroid_mm: Point;
  colour: [number, number, number];
}
export interface Result {
  id: string;
  job_id: string | null;
  study_uid: string;
  series_uid: string;
  segmentation: { series_uid: string; sop_instance_uid: string } | null;
  model: { name: string; version: string; sha256: string; demonstration: boolean };
  state: string;
  created_at: string;
  lesion_count: number;
  lesions: Lesion[];
  warnings: string[];
  notice: string;
}
export interface Model {
  name: string;
  version: string;
  description: string;
  demonstration: boolean;
  is_default: boolean;
}

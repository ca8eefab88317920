/** Made-up answers of the API for the tests. */
import type { Job, Lesion, Model, Result, Session, StudySeries } from '../src/api/types';

export const STUDY = '2.25.1';

export function lesion(number: number, change: Partial<Lesion> = {}): Lesion {
  return {
    id: `${number}`.repeat(32).slice(0, 32),
    segment_number: number,
    name: `Lesion ${number}`,
    tracking_id: `metia-${number}`,
    tracking_uid: `2.25.9${number}`,
    longest_diameter_mm: 10,
    perpendicular_diameter_mm: 8,
    volume_ml: 0.5,
    probability: 0.9,
    peak_probability: 1,
    slice_count: 4,
    sop_instance_uid: `2.25.50${number}`,
    frame_number: null,
    long_axis_mm: [[0, 0, 5], [10, 0, 5]],
    short_axis_mm: [[5, -4, 5], [5, 4, 5]],
    centroid_mm: [5, 0, 5],
    colour: [230, 159, 0],
    voxel_count: 500,
    warnings: [],
    finding_uid: `2.25.9${number}`,
    review: 'unverified',
    diameter_3d_mm: 10,
    diameter_3d_axis_mm: [[0, 0, 5], [10, 0, 5]],
    measurable: true,
    measurable_reasons: [],
    method: 'probability-contour',
    algorithm_type: 'AUTOMATIC',
    ...change,
  };
}

export function result(id: string, change: Partial<Result> = {}): Result {
  const lesions = change.lesions ?? [lesion(1), lesion(2)];
  return {
    id,
    job_id: 'j',
    study_uid: STUDY,
    series_uid: '2.25.5',
    segmentation: { series_uid: `2.25.7${id}`, sop_instance_uid: `2.25.8${id}` },
    model: { name: 'm', version: '1', sha256: 'ab', demonstration: false },
    state: 'unverified',
    created_at: '2026-01-02T03:04:05Z',
    lesion_count: lesions.length,
    lesions,
    warnings: [],
    series_choice: [],
    tilt_deg: 0,
    resampled: false,
    dropped_small: 0,
    parameters: {},
    timings_s: {},
    device: 'cpu',
    code_version: '0',
    notice: '',
    origin: 'model',
    predecessor_id: null,
    version: 1,
    revision: 1,
    author: null,
    note: '',
    spacing_mm: [1, 1, 1],
    slice_thickness_mm: 1,
    signed_by: null,
    signed_at: null,
    ...change,
  };
}

export function job(change: Partial<Job> = {}): Job {
  return {
    id: 'j',
    kind: 'segment',
    state: 'running',
    ups_state: 'IN PROGRESS',
    step: 'predict',
    progress: 0.5,
    attempt: 1,
    max_attempts: 3,
    study_uid: STUDY,
    series_uid: null,
    model: 'm',
    priority: 0,
    cancel_requested: false,
    error: null,
    result_id: null,
    timings_s: {},
    created_at: '2026-01-02T03:04:05Z',
    started_at: null,
    finished_at: null,
    queue_position: null,
    requested_by: 'ann',
    ...change,
  };
}

export const SERIES: StudySeries = {
  study_uid: STUDY,
  chosen: '2.25.5',
  refusal: null,
  candidates: [
    { series_uid: '2.25.5', series_number: 5, description: 'T1 +C', modality: 'MR', instance_count: 160, score: 90, suitable: true, reasons: [] },
    { series_uid: '2.25.3', series_number: 3, description: 'T1', modality: 'MR', instance_count: 30, score: 0, suitable: false, reasons: [] },
  ],
};

export const SESSION: Session = {
  user: { name: 'ann', display_name: 'Ann', role: 'annotator' },
  csrf_token: 'token',
};

export const MODELS: Model[] = [
  { name: 'm', version: '1', sha256: 'ab', kind: 'unetr', task: 't', description: '', demonstration: false, is_default: true },
];

/** Made-up courses for the tests of the follow-up page. */
import type { Course, CourseObservation, CourseVisit, Track } from '../../src/followup/shape/course';

export function visit(number: number, date: string | null, change: Partial<CourseVisit> = {}): CourseVisit {
  return {
    study_uid: `2.25.${number}`,
    date,
    description: `Visit ${number}`,
    series_uid: `2.25.10${number}`,
    result_id: `r${number}`,
    result_state: 'unverified',
    result_revision: 1,
    result_origin: 'model',
    is_baseline: number === 1,
    is_nadir: false,
    registration: null,
    reading: {
      steroid_use: 'not_recorded',
      steroid_change: null,
      steroid_dose_mg: null,
      clinical: 'not_recorded',
      non_target: null,
      technique_changed: false,
      extracranial_response: 'not_recorded',
      selected_result_id: null,
      author: null,
      missing: [],
      note: '',
      revision: 0,
    },
    left_out: null,
    pending_links: 0,
    unlinked: [],
    sum_mm: null,
    sum_complete: change.sum_mm != null,
    sum_volume_ml: 0,
    change_from_baseline_percent: null,
    change_from_nadir_percent: null,
    assessment: null,
    signed: null,
    ...change,
  };
}

export function seen(number: number, mm: number | null, change: Partial<CourseObservation> = {}): CourseObservation {
  return {
    study_uid: `2.25.${number}`,
    reason: '',
    counts: true,
    finding_uid: mm ? `2.25.30${number}` : null,
    slice_count: mm ? 4 : null,
    state: mm === null ? 'not_assessed' : mm === 0 ? 'absent' : 'measured',
    lesion_id: mm ? `l${number}` : null,
    longest_diameter_mm: mm || null,
    perpendicular_diameter_mm: mm ? mm * 0.8 : null,
    volume_ml: mm ? Number(((Math.PI / 6) * (mm / 10) ** 3).toFixed(4)) : null,
    review: mm ? 'unverified' : null,
    measurable: mm !== null && mm >= 10,
    measurable_reasons: [],
    change_mm: null,
    change_percent: null,
    link: mm ? { state: 'automatic', relation: 'same', cost_mm: 1, reason: '' } : null,
    sop_instance_uid: mm ? `2.25.20${number}` : null,
    frame_number: null,
    certainty: null,
    reading: null,
    ...change,
  };
}

export function track(label: string, observations: CourseObservation[], change: Partial<Track> = {}): Track {
  return {
    id: `t-${label}`,
    label,
    tracking_uid: `2.25.99${label.length}`,
    role: 'target',
    role_by: 'rule',
    role_reasons: [],
    compartment: 'cns',
    progressed_since_treatment: null,
    kind: 'parenchymal',
    colour: [230, 159, 0],
    split_from: null,
    revision: 1,
    observations,
    ...change,
  };
}

export function course(visits: CourseVisit[], tracks: Track[], change: Partial<Course> = {}): Course {
  return {
    patient: { id: 'p1', patient_id: 'TEST-1', name: 'Test^Person', birth_date: '1960-01-02', sex: 'F' },
    current_study_uid: null,
    rule_set: 'rano-bm',
    rule_sets: [
      { name: 'rano-bm', title: 'RANO-BM', version: '1.0' },
      { name: 'recist-1.1', title: 'RECIST 1.1', version: '1.0' },
    ],
    rules_version: '1.0',
    notice: 'Research use only. Not a medical device.',
    pending_links: 0,
    last_decision: null,
    plan: {
      treatment_start: null,
      immunotherapy_start: null,
      baseline_study_uid: null,
      rule_set: 'rano-bm',
      protocol: {},
      resets: [],
      revision: 0,
    },
    events: [],
    visits,
    tracks,
    ...change,
  };
}

/** The part of an assessment the charts look at. */
export function assessed(category: string, sum_ml: number | null = null, percent: number | null = null): NonNullable<CourseVisit['assessment']> {
  return {
    category,
    category_text: category,
    target: category,
    non_target: 'none',
    new_lesions: [],
    confirmed: null,
    since: null,
    best_response: null,
    reasons: [],
    flags: [],
    uncertainty: null,
    volumetric:
      sum_ml === null
        ? null
        : { category: 'no volumetric response', sum_ml, change_from_baseline_percent: percent, change_from_nadir_percent: null, sphere_equivalent_growth: false, notice: '' },
    inputs_sha256: '',
  };
}

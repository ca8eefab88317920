"""What the follow-up gives over HTTP, field by field: the course of a patient.

One `Course` holds all that the panel and the follow-up page show; every change answers
with a new one. Lengths in mm, volumes in ml, days as ISO 8601, times in UTC.
Percentages are rounded to one decimal, half away from zero; categories are decided by
the exact integers behind them.
"""

from __future__ import annotations

from marshmallow import fields, validate

from segmentation.followup.case import Kind, Role, State
from segmentation.followup.schemas import (
    EVENT_KINDS,
    LINK_ACTIONS,
    Protocol,
    choice,
    maybe,
    said,
)
from segmentation.http.schemas import Id, Output, Uid


def _text(**options: object) -> fields.String:
    return fields.String(required=True, **options)  # type: ignore[arg-type]


def _number(text: str = "") -> fields.Float:
    return fields.Float(**maybe(metadata=said(text) if text else {}))


def _whole(text: str = "") -> fields.Integer:
    return fields.Integer(required=True, metadata=said(text) if text else {})


class CoursePatient(Output):
    """A patient as the archive names one."""

    id = Id(required=True)
    patient_id = _text(allow_none=True)
    name = _text(allow_none=True, metadata=said("As DICOM writes it: Family^Given."))
    birth_date = fields.Date(**maybe())
    sex = _text(allow_none=True)


class ListedPatient(CoursePatient):
    """A patient of the list."""

    visit_count = _whole()
    first_visit = fields.Date(**maybe())
    last_visit = fields.Date(**maybe())


class Patients(Output):
    """A page of patients."""

    patients = fields.List(fields.Nested(ListedPatient), required=True)
    next_cursor = _text(allow_none=True)


class CourseRuleSet(Output):
    """Response criteria that can be asked for."""

    name = _text()
    title = _text()
    version = _text()


class CourseReset(Output):
    """A visit at which the comparison starts anew."""

    study_uid = Uid(required=True)
    reason = _text()


class CoursePlan(Output):
    """What was planned for the patient, and how to assess."""

    treatment_start = fields.Date(**maybe())
    immunotherapy_start = fields.Date(**maybe())
    baseline_study_uid = Uid(**maybe(metadata=said("As a reader designated it.")))
    rule_set = _text()
    protocol = fields.Nested(Protocol, required=True)
    resets = fields.List(fields.Nested(CourseReset), required=True)
    revision = _whole("0 where no plan was entered.")


class CourseEvent(Output):
    """Something that happened to the patient."""

    id = Id(required=True)
    date = fields.Date(required=True)
    kind = choice(EVENT_KINDS, required=True)
    text = _text()
    track_id = Id(**maybe())
    author = _text(allow_none=True)


class CourseReason(Output):
    """A reason: a stable code, and a sentence."""

    code = _text()
    text = _text()


class CourseRegistration(Output):
    """How a visit was aligned to the earliest one."""

    accepted = fields.Boolean(required=True)
    quality = _number("Higher is better.")
    reason = _text(metadata=said("A code; of those not accepted."))
    matrix = fields.List(
        fields.List(fields.Float(), validate=validate.Length(equal=4)),
        validate=validate.Length(equal=4),
        **maybe(
            metadata=said("This visit to the earliest one, patient coordinates, mm.")
        ),
    )


class CourseReading(Output):
    """What only a reader knows of a visit; as "not recorded" where nobody said."""

    steroid_use = _text()
    steroid_change = _text(allow_none=True)
    steroid_dose_mg = _number("Dexamethasone equivalent a day.")
    clinical = _text()
    non_target = _text(allow_none=True)
    technique_changed = fields.Boolean(required=True)
    extracranial_response = _text()
    note = _text()
    selected_result_id = Id(**maybe())
    revision = _whole("0 where nothing was entered yet.")
    author = _text(allow_none=True)
    missing = fields.List(
        fields.String(),
        required=True,
        metadata=said("What the criteria ask for and nobody has said yet."),
    )


class CourseUncertainty(Output):
    """Which categories the error of measurement allows."""

    firm = fields.Boolean(required=True)
    target = fields.List(fields.String(), required=True)
    overall = fields.List(fields.String(), required=True)
    half_width_mm = _number("Two standard deviations of a difference of two sums.")
    to_progression_mm = _number("From the sum to +20 % of nadir; negative below.")
    to_response_mm = _number("From the sum to -30 % of baseline; negative below.")


class CourseVolumetric(Output):
    """The reading by volume: beside the criteria, never part of them."""

    category = _text()
    sum_ml = _number()
    change_from_baseline_percent = _number()
    change_from_nadir_percent = _number()
    sphere_equivalent_growth = fields.Boolean(required=True)
    notice = _text()


class CourseAssessment(Output):
    """What the criteria propose for a visit."""

    category = _text(metadata=said("CR, PR, SD, PD, NE, INDETERMINATE, BASELINE ..."))
    category_text = _text()
    target = _text()
    non_target = _text()
    new_lesions = fields.List(
        fields.String(), required=True, metadata=said("Labels, certain or not.")
    )
    confirmed = fields.Boolean(
        **maybe(metadata=said("Null where nothing needs confirmation."))
    )
    since = fields.Date(
        **maybe(metadata=said("From when a response or progression counts."))
    )
    best_response = _text(
        allow_none=True, metadata=said("Of the period, from all of its visits.")
    )
    reasons = fields.List(fields.Nested(CourseReason), required=True)
    flags = fields.List(
        fields.String(), required=True, metadata=said("Codes a person should look at.")
    )
    uncertainty = fields.Nested(CourseUncertainty, **maybe())
    volumetric = fields.Nested(CourseVolumetric, **maybe())
    inputs_sha256 = _text(
        metadata=said("Of everything this visit's assessment rests on; to be signed.")
    )


class CourseSignature(Output):
    """The standing signature under a visit's assessment."""

    id = Id(required=True)
    rule_set = _text()
    category = _text()
    proposed_category = _text()
    by = _text(metadata=said("The name of the person."))
    at = fields.DateTime(format="iso", required=True)
    comment = _text()
    stale = fields.Boolean(
        required=True, metadata=said("Whether the inputs have changed since.")
    )


class CourseUnlinked(Output):
    """A finding of a visit that belongs to no lesion yet."""

    lesion_id = Id(required=True)
    finding_uid = Uid(required=True)
    name = _text()
    longest_diameter_mm = _number()
    volume_ml = _number()
    sop_instance_uid = Uid(required=True)
    frame_number = fields.Integer(**maybe())


class CourseVisit(Output):
    """One visit: a study with a result."""

    study_uid = Uid(required=True)
    date = fields.Date(**maybe())
    description = _text(allow_none=True)
    series_uid = Uid(**maybe(metadata=said("Null where every result is rejected.")))
    result_id = Id(**maybe())
    result_state = _text(allow_none=True)
    result_revision = fields.Integer(**maybe())
    result_origin = _text(allow_none=True)
    left_out = fields.Nested(
        CourseReason,
        **maybe(metadata=said("Why the visit is not assessed; null where it is.")),
    )
    is_baseline = fields.Boolean(required=True)
    is_nadir = fields.Boolean(
        required=True, metadata=said("The smallest sum of the present period so far.")
    )
    pending_links = _whole("Links of this visit that wait for the reader.")
    unlinked = fields.List(fields.Nested(CourseUnlinked), required=True)
    registration = fields.Nested(
        CourseRegistration,
        **maybe(
            metadata=said("Null at the earliest visit, and where it was not tried yet.")
        ),
    )
    reading = fields.Nested(CourseReading, required=True)
    sum_mm = _number("Of the targets that have a value; null where there is none.")
    sum_complete = fields.Boolean(
        required=True, metadata=said("Whether every target has a value.")
    )
    sum_volume_ml = fields.Float(
        required=True, metadata=said("Of all lesions of the visit, targets or not.")
    )
    change_from_baseline_percent = _number()
    change_from_nadir_percent = _number()
    assessment = fields.Nested(CourseAssessment, **maybe())
    signed = fields.Nested(CourseSignature, **maybe())


class CourseLink(Output):
    """How a finding came to be taken for this lesion."""

    state = choice(("automatic", "pending", "confirmed"), required=True)
    relation = _text()
    cost_mm = _number()
    reason = _text()


class CourseTrackReading(Output):
    """What a reader said of a lesion at a visit."""

    state = _text(allow_none=True)
    reason = _text(allow_none=True)
    into_track_id = Id(**maybe())
    treated_on = fields.Date(**maybe())
    modality = _text(allow_none=True)
    radionecrosis_suspected = fields.Boolean(required=True)
    certainty = _text(allow_none=True)
    projections = fields.Integer(**maybe())
    reappearance = _text(allow_none=True)
    author = _text(allow_none=True)


class CourseObservation(Output):
    """One lesion at one visit."""

    study_uid = Uid(required=True)
    state = choice(State, required=True)
    reason = _text(metadata=said("Code of why it is not assessed; else empty."))
    counts = fields.Boolean(
        required=True, metadata=said("Whether it takes part in the visit's assessment.")
    )
    lesion_id = Id(**maybe())
    finding_uid = Uid(**maybe())
    longest_diameter_mm = _number()
    perpendicular_diameter_mm = _number()
    volume_ml = _number()
    slice_count = fields.Integer(**maybe())
    review = _text(allow_none=True)
    measurable = fields.Boolean(**maybe())
    measurable_reasons = fields.List(fields.String(), required=True)
    change_mm = _number("Against the visit before that has a value.")
    change_percent = _number("Against the baseline.")
    link = fields.Nested(CourseLink, **maybe())
    sop_instance_uid = Uid(**maybe())
    frame_number = fields.Integer(**maybe())
    certainty = _text(allow_none=True)
    reading = fields.Nested(
        CourseTrackReading, **maybe(metadata=said("Null where a reader said nothing."))
    )


class CourseTrack(Output):
    """One lesion over time."""

    id = Id(required=True)
    label = _text()
    tracking_uid = Uid(required=True)
    role = choice(
        Role, **maybe(metadata=said("In the present period; null: not there then."))
    )
    role_by = choice(("reader", "rule"), **maybe())
    role_reasons = fields.List(
        fields.String(), required=True, metadata=said("Why it is no target; sentences.")
    )
    kind = choice(Kind, required=True)
    compartment = _text()
    progressed_since_treatment = fields.Boolean(**maybe())
    colour = fields.List(
        fields.Integer(), validate=validate.Length(equal=3), required=True
    )
    split_from = Id(**maybe(metadata=said("The track of which this is a fragment.")))
    revision = _whole()
    observations = fields.List(
        fields.Nested(CourseObservation),
        required=True,
        metadata=said("One a visit, in the order of the visits."),
    )


class CourseDecision(Output):
    """A reader's decision about a link."""

    id = _whole()
    action = choice(LINK_ACTIONS, required=True)
    study_uid = Uid(required=True)
    finding_uid = Uid(required=True)
    track_id = Id(**maybe())
    by = _text()
    at = fields.DateTime(format="iso", required=True)


class Course(Output):
    """Everything known of a patient over time, and what the criteria say of it."""

    patient = fields.Nested(CoursePatient, required=True)
    current_study_uid = Uid(**maybe(metadata=said("The study that was asked for.")))
    rule_set = _text()
    rule_sets = fields.List(fields.Nested(CourseRuleSet), required=True)
    rules_version = _text()
    notice = _text()
    pending_links = _whole("Over all visits.")
    last_decision = fields.Nested(
        CourseDecision, **maybe(metadata=said("What `links/undo` would take back."))
    )
    plan = fields.Nested(CoursePlan, required=True)
    events = fields.List(fields.Nested(CourseEvent), required=True)
    visits = fields.List(
        fields.Nested(CourseVisit), required=True, metadata=said("In order of date.")
    )
    tracks = fields.List(fields.Nested(CourseTrack), required=True)


class SignedAssessment(Output):
    """A signed assessment, with all it rested on."""

    id = Id(required=True)
    study_uid = Uid(required=True)
    rule_set = _text()
    rules_version = _text()
    proposed_category = _text()
    category = _text()
    comment = _text()
    by = _text()
    at = fields.DateTime(format="iso", required=True)
    inputs_sha256 = _text()
    supersedes_id = Id(**maybe())
    stale = fields.Boolean(required=True)
    case = fields.Dict(
        required=True, metadata=said("As `./metia rano assess` takes it.")
    )
    document = fields.Dict(required=True, metadata=said("The assessment as shown."))


class SignedAssessments(Output):
    """All signatures under a visit's assessments, newest first."""

    assessments = fields.List(fields.Nested(SignedAssessment), required=True)


class SkippedStudy(Output):
    """A study that was left out, and why."""

    study_uid = Uid(required=True)
    code = _text(metadata=said("An error code, as in docs/errors.md."))


class BroughtUpToDate(Output):
    """What was asked for to complete a patient's course."""

    queued = fields.List(Id(), required=True, metadata=said("Ids of jobs."))
    up_to_date = _whole("Studies that have a result already.")
    skipped = fields.List(fields.Nested(SkippedStudy), required=True)

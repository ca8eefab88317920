"""What readers enter about a patient's course: checked, written, noted in the audit.

Each function takes a writing ``Session``, names the revision its maker saw (else
``edit-conflict``) and writes one audit entry with what was and what is. Free texts and
days stay out of the audit, which outlives a patient's erasure: of them it says only
whether they changed. Links are recomputed whenever something they rest on changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from db import audit
from db.engine import Session
from db.links import DecisionRecord, add_decision, list_decisions, undo_last_decision
from db.patients import key_of_study, lock_patient
from db.plans import EventRecord, PlanRecord, get_plan, save_plan
from db.plans import add_event as put_event
from db.plans import delete_event as drop_event
from db.results import get_lesion, get_result
from db.tracks import (
    TrackReadingRecord,
    get_track,
    load_tracks,
    save_track_reading,
    update_track,
)
from db.visits import (
    Visit,
    VisitReadingRecord,
    get_reading,
    load_visit,
    save_reading,
    select_result,
)
from errors import MetiaError
from segmentation.followup.course import day_of, patient_case
from segmentation.followup.course_rows import live_lesions, load_course
from segmentation.followup.figures import rounded
from segmentation.followup.linking import relink, track_of
from segmentation.versions.corrections import Reader

_NOT_KEPT = frozenset(
    {
        "note",
        "text",
        "baseline_study_uid",
        "resets",
        "study_uid",
        "patient_key",
    }
)
"""Texts and identifiers of the archive: of these, as of days, no value is kept."""


def change_plan(
    session: Session, patient_key: str, asked: Mapping[str, Any], reader: Reader
) -> None:
    """Set treatment, baseline and criteria of a patient.

    Raises
    ------
    MetiaError
        ``not-found``, ``edit-conflict``; ``invalid-input`` where the baseline or a
        reset is no visit of this patient that can be assessed, or a reset does not come
        after the baseline.
    """
    lock_patient(session, patient_key)
    before = get_plan(session, patient_key)
    values = {name: value for name, value in asked.items() if name != "revision"}
    values["resets"] = tuple(asked["resets"])
    after = save_plan(
        session,
        patient_key,
        PlanRecord(**values),
        expected_revision=asked["revision"],
        by=reader.name,
    )
    _check_plan(session, patient_key, after)
    _note(session, patient_key, "plan-change", reader, vars(before), vars(after))


def _check_plan(session: Session, patient_key: str, plan: PlanRecord) -> None:
    found = patient_case(load_course(session, patient_key))
    wanted = [reset["study_uid"] for reset in plan.resets]
    if len(set(wanted)) < len(wanted):
        raise MetiaError("invalid-input", "A visit is reset twice.")
    baseline = plan.baseline_study_uid
    if {*wanted, *([baseline] if baseline else [])} - found.visit_ids.keys():
        raise MetiaError(
            "invalid-input", "The baseline or a reset is no visit that is assessed."
        )
    resets = found.case.resets if found.case else ()
    if len(resets) < len(wanted):
        raise MetiaError("invalid-input", "A reset must come after the baseline.")


def add_event(
    session: Session, patient_key: str, asked: Mapping[str, Any], reader: Reader
) -> None:
    """Note something that happened to the patient."""
    event = put_event(session, patient_key, EventRecord(**asked), by=reader.name)
    _note(session, patient_key, "event-add", reader, None, vars(event))


def remove_event(
    session: Session, patient_key: str, event_id: str, reader: Reader
) -> None:
    """Take an event off the time line."""
    event = drop_event(session, patient_key, event_id)
    _note(session, patient_key, "event-remove", reader, vars(event), None)


def change_reading(
    session: Session, study_uid: str, asked: Mapping[str, Any], reader: Reader
) -> str:
    """Enter what only a reader knows of a visit; gives the patient's key.

    Raises
    ------
    MetiaError
        ``not-found``; ``edit-conflict``; ``invalid-input`` for a result of another
        visit.
    """
    patient_key = hold_patient_of(session, study_uid)
    before = get_reading(session, study_uid)
    dose = asked["steroid_dose_mg"]
    values = {
        name: value
        for name, value in asked.items()
        if name not in ("revision", "steroid_dose_mg", "selected_result_id")
    }
    record = VisitReadingRecord(
        **values,
        steroid_dose_tenths_mg=None if dose is None else round(rounded(dose, 1) * 10),
    )
    after = save_reading(
        session, study_uid, record, expected_revision=asked["revision"], by=reader.name
    )
    selected = asked["selected_result_id"]
    if selected != before.selected_result_id:
        after = select_result(
            session,
            study_uid,
            selected,
            expected_revision=after.revision,
            by=reader.name,
        )
        relink(session, patient_key)
    visit = require_visit(session, study_uid)
    _note(
        session, patient_key, "reading-change", reader, vars(before), vars(after),
        result=visit.result.id if visit.result else None,
    )  # fmt: skip
    return patient_key


def change_track(
    session: Session, track_id: str, asked: Mapping[str, Any], reader: Reader
) -> str:
    """Rename a lesion, or set what it counts as; gives the patient's key.

    Raises
    ------
    MetiaError
        ``not-found``; ``edit-conflict``; ``conflict`` where another lesion of the
        patient has the label.
    """
    changes = {name: value for name, value in asked.items() if name != "revision"}
    change = update_track(
        session, track_id, changes, expected_revision=asked["revision"]
    )
    key = change.after.patient_key
    _note(session, key, "track-change", reader, vars(change.before), vars(change.after))
    return key


def change_track_reading(
    session: Session,
    track_id: str,
    study_uid: str,
    asked: Mapping[str, Any],
    reader: Reader,
) -> str:
    """Say what became of a lesion at a visit; gives the patient's key.

    Raises
    ------
    MetiaError
        ``not-found``; ``edit-conflict``; ``invalid-input`` where a state lacks what it
        needs, or a lesion would merge into itself.
    """
    key = get_track(session, track_id).patient_key
    lock_patient(session, key)
    visit = require_visit(session, study_uid)
    _check_track_reading(session, key, track_id, visit, asked)
    values = {name: value for name, value in asked.items() if name != "revision"}
    values["reason"] = asked["reason"] or ""
    values["modality"] = asked["modality"] or ""
    values["reappearance"] = asked["reappearance"] or "undetermined"
    change = save_track_reading(
        session,
        track_id,
        study_uid,
        TrackReadingRecord(**values),
        expected_revision=asked["revision"],
        by=reader.name,
    )
    before = vars(change.before) if change.before else None
    _note(
        session, key, "track-reading-change", reader, before, vars(change.after),
        result=visit.result.id if visit.result else None,
    )  # fmt: skip
    return key


def _check_track_reading(
    session: Session,
    patient_key: str,
    track_id: str,
    visit: Visit,
    asked: Mapping[str, Any],
) -> None:
    needs = {
        "merged": ("into_track_id",),
        "not_assessed": ("reason",),
        "locally_treated": ("treated_on", "modality"),
    }
    for state, names in needs.items():
        for name in names:
            if (asked["state"] == state) != (asked[name] is not None):
                raise MetiaError(
                    "invalid-input", f"{name} goes with the state {state}, always."
                )
    day: date | None = day_of(visit.study_date)
    treated_on = asked["treated_on"]
    if day is not None and treated_on is not None and treated_on > day:
        raise MetiaError("invalid-input", "The treatment is after the visit.")
    into = {
        reading.track_id: reading.into_track_id
        for reading in load_tracks(session, patient_key).readings
        if reading.study_uid == visit.study_uid
    }
    step = asked["into_track_id"]
    while step is not None:
        if step == track_id:
            raise MetiaError("invalid-input", "A lesion cannot merge into itself.")
        step = into.pop(step, None)


def decide_link(
    session: Session, patient_key: str, asked: Mapping[str, Any], reader: Reader
) -> None:
    """Decide which lesion a finding is.

    Raises
    ------
    MetiaError
        ``not-found``; ``invalid-input`` where the finding is none of the visit's.
    """
    lock_patient(session, patient_key)
    if (asked["action"] == "link") != (asked["track_id"] is not None):
        raise MetiaError("invalid-input", "track_id goes with the action link, always.")
    finding_uid = _finding(session, patient_key, asked)
    track_id = asked["track_id"]
    if asked["action"] in ("confirm", "unlink"):
        track_id = track_of(session, patient_key, (asked["study_uid"], finding_uid))
    record = DecisionRecord(asked["study_uid"], finding_uid, asked["action"], track_id)
    decision = add_decision(session, patient_key, record, by=reader.name)
    relink(session, patient_key)
    _note(session, patient_key, "link-decide", reader, None, vars(decision))


def _finding(session: Session, patient_key: str, asked: Mapping[str, Any]) -> str:
    """Give the finding that is meant, sure that it counts at the visit."""
    study_uid, lesion_id = asked["study_uid"], asked.get("lesion_id")
    given = asked.get("finding_uid")
    if (lesion_id is None) == (given is None):
        raise MetiaError("invalid-input", "Give finding_uid or lesion_id, one of both.")
    if key_of_study(session, study_uid) != patient_key:
        raise MetiaError("invalid-input", "The visit is not one of this patient.")
    if lesion_id is not None:
        lesion = get_lesion(session, lesion_id)
        if get_result(session, lesion.result_id).study_uid != study_uid:
            raise MetiaError("invalid-input", "The lesion is not one of this visit.")
        given = lesion.finding_uid
    if given not in live_lesions(require_visit(session, study_uid).result):
        raise MetiaError(
            "invalid-input", "The finding is not one of the visit's present result."
        )
    return str(given)


def undo_link(
    session: Session, patient_key: str, decision_id: int | None, reader: Reader
) -> None:
    """Take back the latest decision about a link.

    Raises
    ------
    MetiaError
        ``not-found``; ``conflict`` where none is in force; ``edit-conflict`` where
        another one than `decision_id` is the latest.
    """
    lock_patient(session, patient_key)
    standing = list_decisions(session, patient_key)
    if decision_id is not None and standing and standing[-1].id != decision_id:
        raise MetiaError(
            "edit-conflict",
            "Another decision was made meanwhile.",
            {"current_decision_id": standing[-1].id},
        )
    decision = undo_last_decision(session, patient_key, by=reader.name)
    relink(session, patient_key)
    _note(session, patient_key, "link-undo", reader, vars(decision), None)


def hold_patient_of(session: Session, study_uid: str) -> str:
    """Keep others from writing about the patient of a visit; gives the key."""
    require_visit(session, study_uid)
    patient_key = key_of_study(session, study_uid)
    lock_patient(session, patient_key)
    return patient_key


def require_visit(session: Session, study_uid: str) -> Visit:
    """Read a visit; ``not-found`` where the study has no result."""
    visit = load_visit(session, study_uid)
    if visit is None:
        raise MetiaError("not-found", "Nothing was found in this study yet.")
    return visit


def _note(
    session: Session,
    patient_key: str,
    action: str,
    reader: Reader,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    **more: str | None,
) -> None:
    names = sorted({*(before or {}), *(after or {})})
    changed = [
        name
        for name in names
        if (before or {}).get(name) != (after or {}).get(name)
        and name not in ("updated_at", "revision")
    ]
    audit.append(
        session,
        actor=reader.name,
        action=action,
        subject=f"patient:{patient_key}",
        details={
            "changed": changed,
            "before": _kept(before),
            "after": _kept(after),
            **more,
        },
        request_id=reader.request_id,
    )


def _kept(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    return {
        name: value
        for name, value in values.items()
        if name not in _NOT_KEPT and not isinstance(value, date)
    }

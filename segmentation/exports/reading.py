"""Reads a Course document of the API into what may leave of it.

Unless identifiers were asked for, what names the patient or leads to one is left out:
names, numbers, dates (days since the baseline stay), UIDs of the archive and free texts
of readers. The one place where that is decided. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from segmentation.exports.content import (
    Assessment,
    CourseContent,
    Observation,
    Reason,
    Signature,
    Subject,
    Track,
    Visit,
)
from segmentation.followup.course_document import CourseView
from segmentation.followup.course_rows import CourseRows
from segmentation.followup.course_schemas import Course

Document = Mapping[str, Any]
_ISO_DATE = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b", re.ASCII)


def read_course(document: Document, *, identifiers: bool) -> CourseContent:
    """Read a Course document, and leave out what may not leave.

    Parameters
    ----------
    document : mapping
        As ``GET /patients/{id}/course`` answers it; days as texts or dates.
    identifiers : bool
        Whether name, patient ID, dates, UIDs of the archive and texts of readers leave.
    """
    reader = _Reader(document, identifiers)
    return CourseContent(
        subject=reader.subject(),
        rule_set=document["rule_set"],
        rules_version=document["rules_version"],
        notice=document["notice"],
        visits=tuple(
            reader.visit(number, visit)
            for number, visit in enumerate(document["visits"], 1)
        ),
        tracks=tuple(reader.track(track) for track in document["tracks"]),
    )


def course_document(
    rows: CourseRows, rule_set: str | None = None, study_uid: str | None = None
) -> Document:
    """Give a course as the API answers it.

    Parameters
    ----------
    rule_set : str, optional
        Criteria; those of the patient's plan where left out.
    study_uid : str, optional
        The visit that is asked for.
    """
    answer: Document = Course().dump(CourseView(rows, rule_set).document(study_uid))
    return answer


def visit_number(document: Document, study_uid: str) -> int | None:
    """Give the number of the visit that is a study; None where there is none."""
    uids = [visit["study_uid"] for visit in document["visits"]]
    return uids.index(study_uid) + 1 if study_uid in uids else None


class _Reader:
    def __init__(self, document: Document, identifiers: bool) -> None:
        self._document = document
        self._identifiers = identifiers
        visits: Sequence[Document] = document["visits"]
        self._number = {visit["study_uid"]: n for n, visit in enumerate(visits, 1)}
        dated = [visit for visit in visits if visit["date"] is not None]
        baselines = [visit for visit in dated if visit["is_baseline"]]
        first = next(iter(baselines or dated), None)
        self._day_one = _day(first["date"]) if first is not None else None

    def subject(self) -> Subject:
        patient = self._document["patient"]
        if not self._identifiers:
            return Subject(key=patient["id"], identified=False)
        return Subject(
            key=patient["id"],
            identified=True,
            patient_id=patient["patient_id"] or None,
            name=_plain_name(patient["name"]),
            birth_date=_day(patient["birth_date"]),
            sex=patient["sex"] or None,
        )

    def visit(self, number: int, visit: Document) -> Visit:
        left_out, assessment = visit["left_out"], visit["assessment"]
        signed = visit["signed"]
        day = _day(visit["date"])
        return Visit(
            number=number,
            day=self._study_day(day),
            date=day if self._identifiers else None,
            study_uid=self._told(visit["study_uid"]),
            series_uid=self._told(visit["series_uid"]),
            description=self._told(visit["description"]),
            result_id=visit["result_id"],
            result_state=visit["result_state"],
            result_origin=visit["result_origin"],
            is_baseline=visit["is_baseline"],
            is_nadir=visit["is_nadir"],
            pending_links=visit["pending_links"],
            left_out=self._sentence(left_out["text"]) if left_out else None,
            reading=self._reading(visit["reading"]),
            sum_mm=visit["sum_mm"],
            sum_complete=visit["sum_complete"],
            sum_volume_ml=visit["sum_volume_ml"],
            change_from_baseline_percent=visit["change_from_baseline_percent"],
            change_from_nadir_percent=visit["change_from_nadir_percent"],
            assessment=self._assessment(assessment) if assessment else None,
            signature=self._signature(signed) if signed else None,
        )

    def track(self, track: Document) -> Track:
        red, green, blue = track["colour"]
        return Track(
            id=track["id"],
            label=track["label"],
            tracking_uid=track["tracking_uid"],
            role=track["role"],
            kind=track["kind"],
            colour=(red, green, blue),
            split_from=track["split_from"],
            observations=tuple(
                self._observation(one)
                for one in track["observations"]
                if one["review"] != "rejected" and one["study_uid"] in self._number
            ),
        )

    def _observation(self, one: Document) -> Observation:
        link, reading = one["link"] or {}, one["reading"] or {}
        return Observation(
            visit=self._number[one["study_uid"]],
            state=one["state"],
            reason=one["reason"],
            counts=one["counts"],
            lesion_id=one["lesion_id"],
            longest_diameter_mm=one["longest_diameter_mm"],
            perpendicular_diameter_mm=one["perpendicular_diameter_mm"],
            volume_ml=one["volume_ml"],
            review=one["review"],
            measurable=one["measurable"],
            measurable_reasons=tuple(one["measurable_reasons"]),
            change_mm=one["change_mm"],
            change_percent=one["change_percent"],
            link_state=link.get("state"),
            relation=link.get("relation"),
            certainty=one["certainty"],
            into_track_id=reading.get("into_track_id"),
        )

    def _assessment(self, found: Document) -> Assessment:
        uncertainty, volumetric = found["uncertainty"], found["volumetric"]
        return Assessment(
            category=found["category"],
            category_text=found["category_text"],
            target=found["target"],
            non_target=found["non_target"],
            new_lesions=tuple(found["new_lesions"]),
            confirmed=found["confirmed"],
            best_response=found["best_response"],
            reasons=tuple(
                Reason(reason["code"], self._sentence(reason["text"]))
                for reason in found["reasons"]
            ),
            alternatives=tuple(uncertainty["overall"]) if uncertainty else (),
            volumetric=volumetric["category"] if volumetric else None,
        )

    def _signature(self, signed: Document) -> Signature:
        at = signed["at"]
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        moment = moment.astimezone(UTC)
        return Signature(
            category=signed["category"],
            proposed_category=signed["proposed_category"],
            by=signed["by"],
            at=moment if self._identifiers else None,
            day=self._study_day(moment.date()),
            comment=self._told(signed["comment"]) or "",
            stale=signed["stale"],
        )

    def _reading(self, reading: Document) -> dict[str, Any]:
        """Keep what is coded; of free texts only where identifiers leave."""
        coded = (
            "steroid_use",
            "steroid_change",
            "steroid_dose_mg",
            "clinical",
            "non_target",
            "technique_changed",
            "extracranial_response",
        )
        kept = {name: reading[name] for name in coded}
        return {**kept, "note": self._told(reading["note"]) or ""}

    def _told(self, text: str | None) -> str | None:
        return text if self._identifiers else None

    def _study_day(self, day: date | None) -> int | None:
        if day is None or self._day_one is None:
            return None
        days = (day - self._day_one).days
        return days + 1 if days >= 0 else days

    def _sentence(self, text: str) -> str:
        """Put days in the place of dates, where dates do not leave."""
        if self._identifiers:
            return text
        return _ISO_DATE.sub(self._day_for, text)

    def _day_for(self, found: re.Match[str]) -> str:
        try:
            number = self._study_day(date.fromisoformat(found.group()))
        except ValueError:
            number = None
        return "a date" if number is None else f"day {number}"


def _day(value: str | date | None) -> date | None:
    return date.fromisoformat(value) if isinstance(value, str) else value


def _plain_name(name: str | None) -> str | None:
    """Write a DICOM person name for people: the groups of scripts side by side."""
    if not name:
        return None
    groups = []
    for group in name.split("="):
        parts = [" ".join(part.split()) for part in group.split("^")]
        family, given = parts[0], " ".join(part for part in parts[1:3] if part)
        text = ", ".join(part for part in (family, given) if part)
        if text:
            groups.append(text)
    return " / ".join(groups) or None

"""Saves what a reader drew as the next version of a result.

``correct`` (labels from the viewer), ``rewrite`` (names changed, lesions deleted) and
``restore`` (an earlier version again) promise: every voxel as sent, the version before
left as it was, and either a recorded version with its audit entry or nothing recorded.
Whoever saw an older state gets ``edit-conflict`` and loses nothing: with ``keep_both``
the correction stands beside the other one. Sending the same once more gives the version
that is there. The object lies in the archive before the record tells of it. Safe
between threads; no PHI in logs or errors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from db import audit
from db.engine import Engine, reading, transaction
from db.results import (
    Lesion,
    Result,
    ResultRecord,
    get_result,
    list_versions,
    record_result,
)
from errors import MetiaError
from orthanc.archive import Archive
from orthanc.volume import SliceReference
from segmentation.followup.linking import relink_study
from segmentation.versions.drawing import (
    VERSION_PARAMETERS,
    Authorship,
    DrawnSegment,
    load_base,
    record_of,
    redraw,
)
from segmentation.versions.labels import check_numbers, place, unpack
from segmentation.versions.turn import turn
from settings import VERSION


@dataclass(frozen=True)
class SentSegment:
    """One segment as the viewer describes it; `lesion_id` is None for a new one."""

    number: int
    lesion_id: str | None
    name: str


@dataclass(frozen=True)
class Correction:
    """What a viewer sends beside the labels.

    Attributes
    ----------
    revision : int
        Of the result, as the reader saw it.
    images : tuple of SliceReference
        In order of the labels.
    """

    revision: int
    images: tuple[SliceReference, ...]
    rows: int
    columns: int
    segments: tuple[SentSegment, ...]
    keep_both: bool = False
    note: str = ""

    def digest(self, labels: NDArray[np.integer[Any]]) -> str:
        """Hash the correction with its labels, to know it when it comes again."""
        hashed = hashlib.sha256(repr((self.images, self.segments)).encode())
        hashed.update(np.ascontiguousarray(labels).data)
        return hashed.hexdigest()


@dataclass(frozen=True)
class Rewriting:
    """Changes that need a new SEG but no new voxels; by lesion id."""

    names: Mapping[str, str]
    deleted: frozenset[str]
    reviews: Mapping[str, str]
    state: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Reader:
    """Who does it, and in which request."""

    name: str
    display_name: str
    request_id: str | None = None


def correct(
    engine: Engine,
    archive: Archive,
    result_id: str,
    correction: Correction,
    packed: bytes,
    reader: Reader,
) -> Result:
    """Save the labels of a viewer as a new version.

    Parameters
    ----------
    packed : bytes
        gzip of the labels, see ``labels.unpack``.

    Returns
    -------
    Result
        The new version, or the one that the same correction made before.

    Raises
    ------
    MetiaError
        ``not-found``, ``edit-conflict``, ``invalid-input``, ``nothing-changed``,
        ``source-changed``, ``not-ready``, those of the archive.
    """
    chain = _read_chain(engine, result_id)
    before = next(one for one in chain if one.id == result_id)
    with turn():
        shape = (len(correction.images), correction.rows, correction.columns)
        sent = unpack(packed, shape)
        sent_sha256 = correction.digest(sent)
        again = _sent_before(chain, before, sent_sha256, reader)
        if again is not None:
            return again
        parallel = correction.keep_both and _is_outdated(
            chain, before, correction.revision
        )
        if not parallel:
            _require_unchanged(chain, before, correction.revision)
        lesions = _lesions_of(before, correction)
        check_numbers(sent, [segment.number for segment in correction.segments])
        base = load_base(archive, before)
        _, rows, columns = base.source.volume.spatial_shape
        labels = place(
            sent, correction.images, base.source.slices, base.uids, (rows, columns)
        )
        segments = [
            DrawnSegment(one.number, one.name, lesions[one.number])
            for one in correction.segments
        ]
        by = Authorship(reader.name, reader.display_name, correction.note, parallel)
        record = redraw(archive, base, labels, segments, by)
    record = _with_note_of(record, sent_sha256=sent_sha256)
    return _record(engine, record, before, correction.revision, reader, "correct")


def rewrite(
    engine: Engine,
    archive: Archive,
    result_id: str,
    revision: int,
    asked: Rewriting,
    reader: Reader,
) -> Result:
    """Rename or delete lesions: a new version with the voxels of the others.

    Raises
    ------
    MetiaError
        As ``correct``.
    """
    chain = _read_chain(engine, result_id)
    before = next(one for one in chain if one.id == result_id)
    _require_unchanged(chain, before, revision)
    _require_own(before, {*asked.names, *asked.deleted, *asked.reviews})
    kept = [one for one in before.lesions if one.id not in asked.deleted]
    with turn():
        base = load_base(archive, before)
        labels = base.labels.copy()
        for lesion in before.lesions:
            if lesion.id in asked.deleted:
                labels[labels == lesion.segment_number] = 0
        segments = [
            DrawnSegment(one.segment_number, asked.names.get(one.id, one.name), one)
            for one in kept
        ]
        by = Authorship(reader.name, reader.display_name, asked.note)
        record = redraw(archive, base, labels, segments, by)
    reviewed = tuple(
        replace(new, review=asked.reviews.get(old.id, new.review))
        for new, old in zip(record.lesions, kept, strict=True)
    )
    record = replace(record, lesions=reviewed, state=asked.state)
    return _record(engine, record, before, revision, reader, "rewrite")


def restore(
    engine: Engine,
    result_id: str,
    revision: int,
    wanted_id: str | None,
    reader: Reader,
) -> Result:
    """Make an earlier version the newest again, as a version of its own.

    Parameters
    ----------
    wanted_id : str or None
        The version whose content comes back; None for the one before.

    Raises
    ------
    MetiaError
        ``not-found``, ``edit-conflict``; ``conflict`` where there is no earlier
        version; ``invalid-input`` where the wanted one is not of this chain.
    """
    chain = _read_chain(engine, result_id)
    head = next(one for one in chain if one.id == result_id)
    _require_unchanged(chain, head, revision)
    if head.predecessor_id is None:
        raise MetiaError("conflict", "There is no earlier version.")
    wanted_id = wanted_id or head.predecessor_id
    wanted = next((one for one in chain[:-1] if one.id == wanted_id), None)
    if wanted is None:
        raise MetiaError("invalid-input", "The version is not an earlier one of these.")
    names = {field.name for field in fields(ResultRecord)} - {"lesions"}
    content: dict[str, Any] = {name: getattr(wanted, name) for name in names}
    record = replace(
        ResultRecord(lesions=tuple(map(record_of, wanted.lesions)), **content),
        job_id=None,
        origin="reader",
        predecessor_id=head.id,
        author=reader.name,
        code_version=VERSION,
        note="",
        state="accepted" if wanted.state == "signed" else wanted.state,
    )
    record = _with_note_of(record, of=head.id, restored=wanted.id)
    return _record(engine, record, head, revision, reader, "restore")


def _read_chain(engine: Engine, result_id: str) -> tuple[Result, ...]:
    with reading(engine) as session:
        return list_versions(session, result_id)


def _is_outdated(chain: tuple[Result, ...], before: Result, revision: int) -> bool:
    return chain[-1].id != before.id or before.revision != revision


def _require_unchanged(
    chain: tuple[Result, ...], before: Result, revision: int
) -> None:
    """Refuse before the work; the record asks again with the row locked."""
    head = chain[-1]
    if _is_outdated(chain, before, revision):
        raise MetiaError(
            "edit-conflict",
            "There is a newer version or review of this result.",
            {"current_result_id": head.id, "current_revision": head.revision},
        )


def _sent_before(
    chain: tuple[Result, ...], before: Result, sent_sha256: str, reader: Reader
) -> Result | None:
    """Find the version that this very correction has made already."""
    for one in chain:
        told = one.parameters.get(VERSION_PARAMETERS, {})
        if (
            one.predecessor_id == before.id
            and one.author == reader.name
            and told.get("sent_sha256") == sent_sha256
        ):
            return one
    return None


def _lesions_of(before: Result, correction: Correction) -> dict[int, Lesion | None]:
    """Find the lesion that each segment continues; by the segment's number."""
    numbers = [one.number for one in correction.segments]
    continued = [one.lesion_id for one in correction.segments if one.lesion_id]
    if len(set(numbers)) != len(numbers):
        raise MetiaError("invalid-input", "Two segments have one number.")
    if len(set(continued)) != len(continued):
        raise MetiaError("invalid-input", "Two segments continue one lesion.")
    _require_own(before, set(continued))
    own = {lesion.id: lesion for lesion in before.lesions}
    return {
        one.number: own[one.lesion_id] if one.lesion_id else None
        for one in correction.segments
    }


def _require_own(before: Result, lesion_ids: set[str]) -> None:
    if lesion_ids - {lesion.id for lesion in before.lesions}:
        raise MetiaError("invalid-input", "A lesion is not one of this result.")


def _with_note_of(record: ResultRecord, **told: str) -> ResultRecord:
    """Add to what the parameters tell of the reader's part."""
    parameters = dict(record.parameters)
    parameters[VERSION_PARAMETERS] = {**parameters.get(VERSION_PARAMETERS, {}), **told}
    return replace(record, parameters=parameters)


def _record(
    engine: Engine,
    record: ResultRecord,
    before: Result,
    revision: int,
    reader: Reader,
    verb: str,
) -> Result:
    """Record a version and its audit entry, both or neither."""
    parallel = record.predecessor_id is None
    with transaction(engine) as session:
        result_id = record_result(
            session, record, expected_revision=None if parallel else revision
        )
        after = get_result(session, result_id)
        audit.append(
            session,
            actor=reader.name,
            action=f"result-{verb}",
            subject=f"result:{before.id}",
            details={
                "before": summary(before),
                "after": summary(after),
                "parallel": parallel,
            },
            request_id=reader.request_id,
        )
        relink_study(session, after.study_uid)
    return after


def summary(result: Result) -> dict[str, Any]:
    """Tell what the audit keeps of a result: ids, states, counts."""
    return {
        "result": result.id,
        "version": result.version,
        "revision": result.revision,
        "state": result.state,
        "segmentation": result.segmentation_sop_uid,
        "lesions": {
            lesion.finding_uid: [lesion.review, lesion.voxel_count]
            for lesion in result.lesions
        },
    }

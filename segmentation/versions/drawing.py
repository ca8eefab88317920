"""Draws, measures and stores the SEG of a reader's version of a result.

``redraw`` takes labels on the grid of the series and what each of them is, and promises
that every voxel of them stands in the stored SEG (it is read back and compared), that a
lesion whose voxels did not change keeps its measurements and its type, and that the
others are measured anew on their mask. It writes into the archive but not into the
database: the caller records what it returns. One at a time a process
(``segmentation.versions.turn``), because a label map is large. Axes (slice, row,
column).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from db.models_registry import ModelRecord
from db.results import Lesion as RecordedLesion
from db.results import LesionRecord, Result, ResultRecord
from errors import MetiaError
from orthanc.archive import Archive
from orthanc.volume import LoadedSeries, load_series
from segmentation.dicom.codes import COLOURS, colour_of
from segmentation.dicom.seg import AlgorithmType, Segment, segments_as_labels
from segmentation.dicom.seg_versions import (
    StoredObject,
    Version,
    build_version,
    identify_drawn,
    identify_version,
)
from segmentation.lesions import Lesion, measure_segments
from segmentation.measurability import slice_distance_mm
from segmentation.models.predictor import ModelIdentity
from segmentation.pipeline import stated_thickness_mm, store_and_compare
from segmentation.records import lesion_record, spacing_mm
from segmentation.versions.labels import Labels, digest, unchanged
from settings import VERSION

VERSION_PARAMETERS = "version"
"""Member of a result's parameters that tells of the reader's part in it."""


@dataclass(frozen=True)
class DrawnSegment:
    """What one number among the labels is.

    Attributes
    ----------
    number : int
        Among the labels, from 1.
    before : RecordedLesion or None
        The lesion of the base result that it continues; None for a new one.
    """

    number: int
    name: str
    before: RecordedLesion | None


@dataclass(frozen=True)
class Base:
    """The result that a version starts from, with its images.

    Attributes
    ----------
    labels : numpy.ndarray
        uint16 on the grid: the segments of the base, 0 where it has no lesion.
    uids : frozenset of str
        SOP Instance UIDs of all images of the series.
    """

    result: Result
    source: LoadedSeries
    labels: Labels
    uids: frozenset[str]


def load_base(archive: Archive, result: Result) -> Base:
    """Pull the images and the SEG of a result.

    Raises
    ------
    MetiaError
        ``source-changed`` where the series is not what was segmented;
        ``archive-mismatch`` where the SEG does not lie on it; those of the archive.
    """
    instances = archive.fetch_series(result.study_uid, result.series_uid)
    source = load_series(instances, require_head_t1=False)
    if source.facts["pixel_sha256"] != result.inputs_sha256:
        raise MetiaError(
            "source-changed", "The images are not those that the result was made from."
        )
    return Base(
        result,
        source,
        _stored_labels(archive, result, source),
        frozenset(str(instance.SOPInstanceUID) for instance in instances),
    )


def _stored_labels(archive: Archive, result: Result, source: LoadedSeries) -> Labels:
    stored = stored_object(result)
    if stored is None:
        return np.zeros(source.volume.spatial_shape, dtype=np.uint16)
    segmentation = archive.fetch_instance(
        result.study_uid, stored.series_uid, stored.sop_instance_uid
    )
    try:
        return segments_as_labels(segmentation, source.volume)
    except ValueError as error:
        raise MetiaError(
            "archive-mismatch", "The stored segmentation does not lie on its images."
        ) from error


def stored_object(result: Result) -> StoredObject | None:
    """Name the SEG of a result; None where it found no lesion."""
    if result.segmentation_series_uid is None or result.segmentation_sop_uid is None:
        return None
    return StoredObject(result.segmentation_series_uid, result.segmentation_sop_uid)


@dataclass(frozen=True)
class Authorship:
    """Who makes a version, and where it stands.

    Attributes
    ----------
    author : str
        Name of the account, for the record.
    author_name : str
        Name of the person, for the SEG.
    parallel : bool
        It stands beside the base's successor instead of following the base.
    """

    author: str
    author_name: str
    note: str = ""
    parallel: bool = False


def redraw(
    archive: Archive,
    base: Base,
    labels: Labels,
    segments: Sequence[DrawnSegment],
    authorship: Authorship,
) -> ResultRecord:
    """Draw, measure and store a version.

    Parameters
    ----------
    labels : numpy.ndarray
        uint16 on the grid of the base; exactly the numbers of `segments`, and 0.
    segments : sequence of DrawnSegment
        Without any: the version says that there is no lesion, and has no SEG.

    Raises
    ------
    MetiaError
        ``nothing-changed`` where voxels and names are those of the base; those of the
        archive.
    """
    began = time.perf_counter()
    segments = sorted(segments, key=lambda segment: segment.number)
    same = unchanged(
        labels,
        base.labels,
        {one.number: one.before.segment_number for one in segments if one.before},
    )
    _require_change(base, segments, same)
    version = _Version(base, labels, segments, same, authorship)
    if segments:
        version.store(archive)
    seconds = round(time.perf_counter() - began, 4)
    return version.record({"redraw": seconds})


def _require_change(
    base: Base, segments: Sequence[DrawnSegment], same: set[int]
) -> None:
    kept = all(
        one.number in same and one.before is not None and one.name == one.before.name
        for one in segments
    )
    if kept and len(segments) == len(base.result.lesions):
        raise MetiaError(
            "nothing-changed", "Voxels and names are those of the stored version."
        )


class _Version:
    """One version on its way into archive and record."""

    def __init__(
        self,
        base: Base,
        labels: Labels,
        segments: Sequence[DrawnSegment],
        same: set[int],
        authorship: Authorship,
    ) -> None:
        self._base, self._segments, self._same = base, segments, same
        self._authorship = authorship
        renumber = np.zeros(1 << 16, dtype=np.uint16)
        for place, one in enumerate(segments, 1):
            renumber[one.number] = place
        self._labels = base.source.volume.with_array(renumber[labels])
        self._sha256 = digest(self._labels.array)
        self.identity = identify_version(*self._content())
        self._described = self._describe()

    def _content(self) -> tuple[str, ...]:
        names = [
            part
            for one in self._segments
            for part in (one.name, one.before.finding_uid if one.before else "")
        ]
        base, by = self._base.result, self._authorship
        return (base.id, self._sha256, by.author, str(by.parallel), *names)

    def _describe(self) -> list[Segment]:
        taken = {tuple(one.before.colour) for one in self._segments if one.before}
        free = [colour for colour in COLOURS if colour not in taken]
        described: list[Segment] = []
        for place, one in enumerate(self._segments, 1):
            if one.before is None:
                colour = free.pop(0) if free else colour_of(place)
                uid = identify_drawn(self.identity, place)
                described.append(Segment(one.name, one.name, uid, colour, "MANUAL"))
            else:
                described.append(
                    Segment(
                        label=one.name,
                        tracking_id=one.before.tracking_id,
                        tracking_uid=one.before.tracking_uid,
                        colour=one.before.colour,
                        algorithm_type=self._type(one),
                    )
                )
        return described

    def _type(self, one: DrawnSegment) -> AlgorithmType:
        before = one.before
        if before is None or before.algorithm_type == "MANUAL":
            return "MANUAL"
        if one.number in self._same and before.algorithm_type == "AUTOMATIC":
            return "AUTOMATIC"
        return "SEMIAUTOMATIC"

    @property
    def _number(self) -> int:
        return 1 if self._authorship.parallel else self._base.result.version + 1

    def store(self, archive: Archive) -> None:
        """Build the SEG, store it, read it back and compare."""
        base = self._base.result
        parameters = {
            name: value
            for name, value in base.parameters.items()
            if name != VERSION_PARAMETERS
        }
        segmentation = build_version(
            self._base.source.source_images,
            self._labels,
            self._described,
            self.identity,
            Version(
                number=self._number,
                author=self._authorship.author_name,
                model=_identity_of(base.model),
                parameters=parameters,
                predecessor=stored_object(base),
            ),
        )
        store_and_compare(archive, base.study_uid, segmentation, self._labels)

    def record(self, timings_s: dict[str, float]) -> ResultRecord:
        """Give what the database keeps of it."""
        base, between = self._base.result, spacing_mm(self._base.source)
        thickness_mm = stated_thickness_mm(self._base.source)
        measured = measure_segments(
            self._labels,
            slice_distance_mm=slice_distance_mm(between[0], thickness_mm),
            numbers=[
                place
                for place, one in enumerate(self._segments, 1)
                if one.number not in self._same
            ],
        )
        found = {lesion.number: lesion for lesion in measured.lesions}
        stored = self.identity if self._segments else None
        return ResultRecord(
            job_id=None,
            series_uid=base.series_uid,
            segmentation_series_uid=stored.series_uid if stored else None,
            segmentation_sop_uid=stored.sop_instance_uid if stored else None,
            model=base.model,
            inputs_sha256=base.inputs_sha256,
            instance_count=base.instance_count,
            code_version=VERSION,
            parameters={
                **base.parameters,
                VERSION_PARAMETERS: {"of": base.id, "labels_sha256": self._sha256},
            },
            device="reader",
            timings_s=timings_s,
            warnings=base.warnings,
            series_choice=base.series_choice,
            tilt_deg=measured.tilt_deg,
            resampled=measured.resampled,
            dropped_small=0,
            lesions=tuple(
                self._lesion(place, one, found.get(place))
                for place, one in enumerate(self._segments, 1)
            ),
            origin="reader",
            predecessor_id=None if self._authorship.parallel else base.id,
            author=self._authorship.author,
            note=self._authorship.note,
            spacing_mm=between,
            slice_thickness_mm=thickness_mm,
            segmentation_label=base.segmentation_label,
        )

    def _lesion(
        self, place: int, one: DrawnSegment, measured: Lesion | None
    ) -> LesionRecord:
        segment = self._described[place - 1]
        if measured is None:
            assert one.before is not None  # noqa: S101 - only what was there is same
            return replace(
                record_of(one.before), segment_number=place, name=segment.label
            )
        return lesion_record(
            measured,
            segment,
            self._base.source.slices[measured.slice_index],
            finding_uid=one.before.finding_uid if one.before else "",
            drawn=True,
        )


def record_of(lesion: RecordedLesion) -> LesionRecord:
    """Copy what was recorded of a lesion, to be recorded in another version."""
    values: dict[str, Any] = {
        field.name: getattr(lesion, field.name) for field in fields(LesionRecord)
    }
    return LesionRecord(**values)


def _identity_of(model: ModelRecord | None) -> ModelIdentity | None:
    if model is None:
        return None
    return ModelIdentity(model.name, model.version, model.sha256, model.demonstration)

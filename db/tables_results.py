"""Tables of what was found: results in their versions, lesions.

Content is never changed, only states and reviews (``db.reviews``), each change raising
``revision``. Rows are made by ``db.results``. See ``db.models`` for the rules of all
tables.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.tables_archive import ModelRow, SeriesRow
from db.tables_base import Base, length, one_of, unique_where, within

RESULT_STATES = ("unverified", "accepted", "edited", "rejected", "signed")
ORIGINS = ("model", "reader", "import")
LESION_REVIEWS = ("unverified", "accepted", "rejected")
MEASUREMENT_METHODS = ("probability-contour", "mask-contour")
ALGORITHM_TYPES = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")


class ResultRow(Base):
    """What one analysis of one series found, and everything that determined it."""

    __tablename__ = "result"
    __table_args__ = (
        one_of("state", RESULT_STATES),
        one_of("origin", ORIGINS),
        length("segmentation_series_uid", 1, 64),
        length("segmentation_sop_uid", 1, 64),
        CheckConstraint("instance_count >= 1", name="instance_count"),
        CheckConstraint(
            "(segmentation_series_uid IS NULL) = (segmentation_sop_uid IS NULL)",
            name="segmentation",
        ),
        CheckConstraint("length(inputs_sha256) = 64", name="inputs_sha256_length"),
        within("tilt_deg", "0", "90"),
        CheckConstraint("dropped_small >= 0", name="dropped_small"),
        CheckConstraint("revision >= 1", name="revision"),
        CheckConstraint(
            "version >= 1 AND (version = 1) = (predecessor_id IS NULL)", name="version"
        ),
        CheckConstraint(
            "origin <> 'model' OR (model_sha256 IS NOT NULL"
            " AND predecessor_id IS NULL)",
            name="model_result",
        ),
        CheckConstraint(
            "origin = 'model' OR (author IS NOT NULL AND length(author) >= 1)",
            name="reader_has_name",
        ),
        CheckConstraint(
            "(state = 'signed') = (signed_by IS NOT NULL)"
            " AND (signed_by IS NULL) = (signed_at IS NULL)",
            name="signed_has_signer",
        ),
        CheckConstraint(
            "slice_thickness_mm > 0 AND slice_thickness_mm <= 1000",
            name="slice_thickness_mm",
        ),
        UniqueConstraint("identity_sha256"),
        # A restored version shows the object of the version that it restores.
        unique_where(
            "uq_result_segmentation", "predecessor_id IS NULL", "segmentation_sop_uid"
        ),
        # History is a line: two readers who edit one version cannot both succeed it.
        unique_where(
            "uq_result_successor", "predecessor_id IS NOT NULL", "predecessor_id"
        ),
        Index("ix_result_series", "series_uid", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    identity_sha256: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"), index=True)
    series_uid: Mapped[str] = mapped_column(ForeignKey("series.series_uid"))
    segmentation_series_uid: Mapped[str | None] = mapped_column(String(64))
    segmentation_sop_uid: Mapped[str | None] = mapped_column(String(64), index=True)
    model_sha256: Mapped[str | None] = mapped_column(
        ForeignKey("model.sha256"), index=True
    )
    state: Mapped[str]
    inputs_sha256: Mapped[str] = mapped_column(String(64))
    instance_count: Mapped[int]
    code_version: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    device: Mapped[str]
    timings_s: Mapped[dict[str, Any]]
    warnings: Mapped[list[Any]]
    series_choice: Mapped[list[Any]]
    tilt_deg: Mapped[float]
    resampled: Mapped[bool]
    dropped_small: Mapped[int]
    created_at: Mapped[datetime]
    origin: Mapped[str] = mapped_column(server_default="model")
    predecessor_id: Mapped[str | None] = mapped_column(ForeignKey("result.id"))
    version: Mapped[int] = mapped_column(server_default="1")
    revision: Mapped[int] = mapped_column(server_default="1")
    author: Mapped[str | None]
    note: Mapped[str] = mapped_column(server_default="")
    spacing_mm: Mapped[list[Any] | None]
    slice_thickness_mm: Mapped[float | None]
    segmentation_label: Mapped[str | None]
    signed_by: Mapped[str | None]
    signed_at: Mapped[datetime | None]

    series: Mapped[SeriesRow] = relationship(viewonly=True)
    model: Mapped[ModelRow | None] = relationship(viewonly=True)
    lesions: Mapped[list[LesionRow]] = relationship(
        order_by="LesionRow.segment_number", viewonly=True
    )


class LesionRow(Base):
    """One lesion of one result, measured."""

    __tablename__ = "lesion"
    __table_args__ = (
        UniqueConstraint("result_id", "segment_number"),
        UniqueConstraint("result_id", "tracking_uid"),
        UniqueConstraint("result_id", "finding_uid"),
        CheckConstraint("segment_number >= 1", name="segment_number"),
        CheckConstraint("voxel_count >= 1", name="voxel_count"),
        CheckConstraint("slice_count >= 1", name="slice_count"),
        CheckConstraint("slice_index >= 0", name="slice_index"),
        CheckConstraint("frame_number >= 1", name="frame_number"),
        CheckConstraint("volume_ml > 0 AND volume_ml <= 10000", name="volume_ml"),
        CheckConstraint(
            "longest_diameter_mm > 0 AND longest_diameter_mm <= 1000",
            name="longest_diameter_mm",
        ),
        # The last digits of two equal diameters may differ.
        CheckConstraint(
            "perpendicular_diameter_mm >= 0 "
            "AND perpendicular_diameter_mm <= longest_diameter_mm + 0.000001",
            name="perpendicular_diameter_mm",
        ),
        CheckConstraint(
            "diameter_3d_mm > 0 AND diameter_3d_mm <= 1000", name="diameter_3d_mm"
        ),
        one_of("review", LESION_REVIEWS),
        one_of("method", MEASUREMENT_METHODS),
        one_of("algorithm_type", ALGORITHM_TYPES),
        within("probability", "0", "1"),
        within("peak_probability", "0", "1"),
        length("tracking_uid", 1, 64),
        length("finding_uid", 1, 64),
        length("sop_instance_uid", 1, 64),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    result_id: Mapped[str] = mapped_column(ForeignKey("result.id"))
    segment_number: Mapped[int]
    name: Mapped[str]
    tracking_id: Mapped[str]
    tracking_uid: Mapped[str] = mapped_column(String(64), index=True)
    colour: Mapped[list[Any]]
    voxel_count: Mapped[int]
    volume_ml: Mapped[float]
    longest_diameter_mm: Mapped[float]
    perpendicular_diameter_mm: Mapped[float]
    long_axis_mm: Mapped[list[Any]]
    short_axis_mm: Mapped[list[Any]]
    centroid_mm: Mapped[list[Any]]
    probability: Mapped[float | None]
    peak_probability: Mapped[float | None]
    slice_index: Mapped[int]
    slice_count: Mapped[int]
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    frame_number: Mapped[int | None]
    warnings: Mapped[list[Any]]
    finding_uid: Mapped[str] = mapped_column(String(64), index=True)
    review: Mapped[str] = mapped_column(server_default="unverified")
    diameter_3d_mm: Mapped[float | None]
    diameter_3d_axis_mm: Mapped[list[Any] | None]
    measurable: Mapped[bool | None]
    measurable_reasons: Mapped[list[Any]] = mapped_column(server_default="[]")
    method: Mapped[str] = mapped_column(server_default="probability-contour")
    algorithm_type: Mapped[str] = mapped_column(server_default="AUTOMATIC")

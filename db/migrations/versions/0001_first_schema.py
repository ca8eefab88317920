"""The first schema: patients, jobs, results, people, audit.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)

_SQLITE_TRIGGERS = [
    f"""
    CREATE TRIGGER audit_no_{action.lower()} BEFORE {action} ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END
    """
    for action in ("UPDATE", "DELETE")
]
_POSTGRESQL_TRIGGERS = [
    """
    CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit is append-only' USING ERRCODE = '23001'; END $$
    """,
    """
    CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change()
    """,
]


def _on_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _inline(constraint: sa.ForeignKeyConstraint) -> list[sa.ForeignKeyConstraint]:
    # job and result point at each other: SQLite takes a reference to a table that is
    # not there yet but cannot add one later, PostgreSQL the other way round.
    return [constraint] if _on_sqlite() else []


def upgrade() -> None:
    op.create_table(
        "app_user",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.CheckConstraint(
            "role IN ('viewer', 'annotator', 'reviewer', 'admin')",
            name=op.f("ck_app_user_role"),
        ),
        sa.CheckConstraint(
            "length(name) BETWEEN 1 AND 64", name=op.f("ck_app_user_name_length")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_app_user")),
    )
    op.create_table(
        "audit",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=True),
            nullable=False,
        ),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", _JSON, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_subject", "audit", ["subject"])
    op.create_table(
        "job",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("series_uid", sa.String(length=64), nullable=True),
        sa.Column("model_name", sa.Text(), nullable=True),
        sa.Column("parameters", _JSON, nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("dedupe_key", sa.String(length=64), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("result_id", sa.String(length=32), nullable=True),
        sa.Column("timings_s", _JSON, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("started_at", _TIME, nullable=True),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.CheckConstraint(
            "(state = 'succeeded') = (result_id IS NOT NULL)",
            name=op.f("ck_job_result"),
        ),
        sa.CheckConstraint(
            "(state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_job_finished_at"),
        ),
        sa.CheckConstraint(
            "state <> 'failed' OR error_code IS NOT NULL", name=op.f("ck_job_error")
        ),
        sa.CheckConstraint(
            "state <> 'queued' OR NOT cancel_requested",
            name=op.f("ck_job_queued_not_cancelled"),
        ),
        sa.CheckConstraint(
            "state <> 'running' OR (owner IS NOT NULL AND lease_until IS NOT NULL AND started_at IS NOT NULL AND attempt >= 1)",
            name=op.f("ck_job_running_has_owner"),
        ),
        sa.CheckConstraint(
            "state = 'running' OR lease_until IS NULL",
            name=op.f("ck_job_only_running_has_lease"),
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_job_state"),
        ),
        sa.CheckConstraint("attempt >= 0", name=op.f("ck_job_attempt")),
        sa.CheckConstraint(
            "deaths >= 0 AND deaths <= max_attempts", name=op.f("ck_job_deaths")
        ),
        sa.CheckConstraint(
            "length(series_uid) BETWEEN 1 AND 64", name=op.f("ck_job_series_uid_length")
        ),
        sa.CheckConstraint(
            "length(study_uid) BETWEEN 1 AND 64", name=op.f("ck_job_study_uid_length")
        ),
        sa.CheckConstraint("max_attempts >= 1", name=op.f("ck_job_max_attempts")),
        sa.CheckConstraint(
            "priority >= -100 AND priority <= 100", name=op.f("ck_job_priority")
        ),
        sa.CheckConstraint(
            "progress >= 0 AND progress <= 1", name=op.f("ck_job_progress")
        ),
        sa.CheckConstraint("retries >= 0", name=op.f("ck_job_retries")),
        *_inline(
            sa.ForeignKeyConstraint(
                ["result_id"], ["result.id"], name=op.f("fk_job_result_id")
            )
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    op.create_index("ix_job_created", "job", ["created_at", "id"])
    op.create_index(
        "ix_job_lease",
        "job",
        ["lease_until"],
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index("ix_job_result_id", "job", ["result_id"])
    op.create_index("ix_job_study", "job", ["study_uid", "created_at"])
    op.create_index(
        "uq_job_active",
        "job",
        ["dedupe_key"],
        unique=True,
        sqlite_where=sa.text("state IN ('queued', 'running') AND NOT cancel_requested"),
        postgresql_where=sa.text(
            "state IN ('queued', 'running') AND NOT cancel_requested"
        ),
    )
    op.create_table(
        "model",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("demonstration", sa.Boolean(), nullable=False),
        sa.Column("promoted", sa.Boolean(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.CheckConstraint("length(sha256) = 64", name=op.f("ck_model_sha256_length")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_model")),
    )
    op.create_index("ix_model_name", "model", ["name"])
    op.create_index(
        "uq_model_promoted",
        "model",
        ["task"],
        unique=True,
        sqlite_where=sa.text("promoted"),
        postgresql_where=sa.text("promoted"),
    )
    op.create_table(
        "patient",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=True),
        sa.Column("issuer", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("birth_date", sa.Text(), nullable=True),
        sa.Column("sex", sa.Text(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient")),
    )
    op.create_index(
        "uq_patient_identity",
        "patient",
        ["patient_id", "issuer"],
        unique=True,
        sqlite_where=sa.text("patient_id IS NOT NULL"),
        postgresql_where=sa.text("patient_id IS NOT NULL"),
    )
    op.create_table(
        "worker",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("queues", _JSON, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("last_seen", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_worker")),
    )
    op.create_table(
        "api_token",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_name", sa.String(length=64), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("last_used_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["user_name"], ["app_user.name"], name=op.f("fk_api_token_user_name")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_token_token_hash")),
    )
    op.create_index("ix_api_token_user_name", "api_token", ["user_name"])
    op.create_table(
        "study",
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_key", sa.String(length=32), nullable=False),
        sa.Column("study_date", sa.Text(), nullable=True),
        sa.Column("study_time", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("accession_number", sa.Text(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.CheckConstraint(
            "length(study_uid) BETWEEN 1 AND 64", name=op.f("ck_study_study_uid_length")
        ),
        sa.ForeignKeyConstraint(
            ["patient_key"], ["patient.id"], name=op.f("fk_study_patient_key")
        ),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_study")),
    )
    op.create_index("ix_study_patient_key", "study", ["patient_key"])
    op.create_table(
        "user_session",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_name", sa.String(length=64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_name"], ["app_user.name"], name=op.f("fk_user_session_user_name")
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_user_session")),
    )
    op.create_index("ix_user_session_expires_at", "user_session", ["expires_at"])
    op.create_index("ix_user_session_user_name", "user_session", ["user_name"])
    op.create_table(
        "series",
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("series_number", sa.BigInteger(), nullable=True),
        sa.Column("modality", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("instance_count", sa.Integer(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.CheckConstraint(
            "length(series_uid) BETWEEN 1 AND 64",
            name=op.f("ck_series_series_uid_length"),
        ),
        sa.ForeignKeyConstraint(
            ["study_uid"], ["study.study_uid"], name=op.f("fk_series_study_uid")
        ),
        sa.PrimaryKeyConstraint("series_uid", name=op.f("pk_series")),
    )
    op.create_index("ix_series_study_uid", "series", ["study_uid"])
    op.create_table(
        "result",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("identity_sha256", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=True),
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.Column("segmentation_series_uid", sa.String(length=64), nullable=True),
        sa.Column("segmentation_sop_uid", sa.String(length=64), nullable=True),
        sa.Column("model_sha256", sa.String(length=64), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("inputs_sha256", sa.String(length=64), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("parameters", _JSON, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("timings_s", _JSON, nullable=False),
        sa.Column("warnings", _JSON, nullable=False),
        sa.Column("series_choice", _JSON, nullable=False),
        sa.Column("tilt_deg", sa.Double(), nullable=False),
        sa.Column("resampled", sa.Boolean(), nullable=False),
        sa.Column("dropped_small", sa.Integer(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.CheckConstraint("dropped_small >= 0", name=op.f("ck_result_dropped_small")),
        sa.CheckConstraint(
            "tilt_deg >= 0 AND tilt_deg <= 90", name=op.f("ck_result_tilt_deg")
        ),
        sa.CheckConstraint("state IN ('unverified')", name=op.f("ck_result_state")),
        sa.CheckConstraint(
            "(segmentation_series_uid IS NULL) = (segmentation_sop_uid IS NULL)",
            name=op.f("ck_result_segmentation"),
        ),
        sa.CheckConstraint(
            "instance_count >= 1", name=op.f("ck_result_instance_count")
        ),
        sa.CheckConstraint(
            "length(inputs_sha256) = 64", name=op.f("ck_result_inputs_sha256_length")
        ),
        sa.CheckConstraint(
            "length(segmentation_series_uid) BETWEEN 1 AND 64",
            name=op.f("ck_result_segmentation_series_uid_length"),
        ),
        sa.CheckConstraint(
            "length(segmentation_sop_uid) BETWEEN 1 AND 64",
            name=op.f("ck_result_segmentation_sop_uid_length"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_result_job_id")),
        sa.ForeignKeyConstraint(
            ["model_sha256"], ["model.sha256"], name=op.f("fk_result_model_sha256")
        ),
        sa.ForeignKeyConstraint(
            ["series_uid"], ["series.series_uid"], name=op.f("fk_result_series_uid")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_result")),
        sa.UniqueConstraint("identity_sha256", name=op.f("uq_result_identity_sha256")),
        sa.UniqueConstraint(
            "segmentation_sop_uid", name=op.f("uq_result_segmentation_sop_uid")
        ),
    )
    op.create_index("ix_result_job_id", "result", ["job_id"])
    op.create_index("ix_result_model_sha256", "result", ["model_sha256"])
    op.create_index("ix_result_series", "result", ["series_uid", "created_at"])
    op.create_table(
        "lesion",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("result_id", sa.String(length=32), nullable=False),
        sa.Column("segment_number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tracking_id", sa.Text(), nullable=False),
        sa.Column("tracking_uid", sa.String(length=64), nullable=False),
        sa.Column("colour", _JSON, nullable=False),
        sa.Column("voxel_count", sa.Integer(), nullable=False),
        sa.Column("volume_ml", sa.Double(), nullable=False),
        sa.Column("longest_diameter_mm", sa.Double(), nullable=False),
        sa.Column("perpendicular_diameter_mm", sa.Double(), nullable=False),
        sa.Column("long_axis_mm", _JSON, nullable=False),
        sa.Column("short_axis_mm", _JSON, nullable=False),
        sa.Column("centroid_mm", _JSON, nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("peak_probability", sa.Double(), nullable=False),
        sa.Column("slice_index", sa.Integer(), nullable=False),
        sa.Column("slice_count", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("frame_number", sa.Integer(), nullable=True),
        sa.Column("warnings", _JSON, nullable=False),
        sa.CheckConstraint("frame_number >= 1", name=op.f("ck_lesion_frame_number")),
        sa.CheckConstraint(
            "length(sop_instance_uid) BETWEEN 1 AND 64",
            name=op.f("ck_lesion_sop_instance_uid_length"),
        ),
        sa.CheckConstraint(
            "length(tracking_uid) BETWEEN 1 AND 64",
            name=op.f("ck_lesion_tracking_uid_length"),
        ),
        sa.CheckConstraint(
            "longest_diameter_mm > 0 AND longest_diameter_mm <= 1000",
            name=op.f("ck_lesion_longest_diameter_mm"),
        ),
        sa.CheckConstraint(
            "peak_probability >= 0 AND peak_probability <= 1",
            name=op.f("ck_lesion_peak_probability"),
        ),
        sa.CheckConstraint(
            "perpendicular_diameter_mm >= 0 AND perpendicular_diameter_mm <= longest_diameter_mm + 0.000001",
            name=op.f("ck_lesion_perpendicular_diameter_mm"),
        ),
        sa.CheckConstraint(
            "probability >= 0 AND probability <= 1", name=op.f("ck_lesion_probability")
        ),
        sa.CheckConstraint(
            "segment_number >= 1", name=op.f("ck_lesion_segment_number")
        ),
        sa.CheckConstraint("slice_count >= 1", name=op.f("ck_lesion_slice_count")),
        sa.CheckConstraint("slice_index >= 0", name=op.f("ck_lesion_slice_index")),
        sa.CheckConstraint(
            "volume_ml > 0 AND volume_ml <= 10000", name=op.f("ck_lesion_volume_ml")
        ),
        sa.CheckConstraint("voxel_count >= 1", name=op.f("ck_lesion_voxel_count")),
        sa.ForeignKeyConstraint(
            ["result_id"], ["result.id"], name=op.f("fk_lesion_result_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lesion")),
        sa.UniqueConstraint(
            "result_id",
            "segment_number",
            name=op.f("uq_lesion_result_id_segment_number"),
        ),
        sa.UniqueConstraint(
            "result_id", "tracking_uid", name=op.f("uq_lesion_result_id_tracking_uid")
        ),
    )
    op.create_index("ix_lesion_tracking_uid", "lesion", ["tracking_uid"])
    op.create_index(
        "ix_job_waiting",
        "job",
        [sa.text("priority DESC"), "created_at", "id", "queue", "not_before", "state"],
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    if not _on_sqlite():
        op.create_foreign_key(
            "fk_job_result_id", "job", "result", ["result_id"], ["id"]
        )
    for statement in _SQLITE_TRIGGERS if _on_sqlite() else _POSTGRESQL_TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("there is no schema before the first")

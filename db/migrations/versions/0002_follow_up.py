"""Versions of results, reviews, lesions over time, the course of a patient.

What was recorded before becomes the first version, made by a model and reviewed by
nobody. SQLite rebuilds the tables that change, so the order of columns is the same in
both databases: new ones last.

Revision ID: 0002
Revises: 0001
"""

import unicodedata

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)

_ERASING = """
    EXISTS (
        SELECT 1 FROM patient WHERE erasing AND id IN (
            OLD.patient_key,
            (SELECT patient_key FROM study WHERE study_uid = OLD.study_uid)
        )
    )
"""
_SQLITE_TRIGGERS = [
    """
    CREATE TRIGGER assessment_no_update BEFORE UPDATE ON assessment
    BEGIN SELECT RAISE(ABORT, 'assessments are append-only'); END
    """,
    f"""
    CREATE TRIGGER assessment_no_delete BEFORE DELETE ON assessment
    WHEN NOT {_ERASING}
    BEGIN SELECT RAISE(ABORT, 'assessments are append-only'); END
    """,
]
_POSTGRESQL_TRIGGERS = [
    f"""
    CREATE FUNCTION assessment_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            IF {_ERASING} THEN RETURN OLD; END IF;
        END IF;
        RAISE EXCEPTION 'assessments are append-only' USING ERRCODE = '23001';
    END $$
    """,
    """
    CREATE TRIGGER assessment_no_change BEFORE UPDATE OR DELETE ON assessment
    FOR EACH ROW EXECUTE FUNCTION assessment_refuse_change()
    """,
    """
    CREATE TRIGGER assessment_no_truncate BEFORE TRUNCATE ON assessment
    FOR EACH STATEMENT EXECUTE FUNCTION assessment_refuse_change()
    """,
]


def _on_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def upgrade() -> None:
    _change_patient()
    _change_result()
    _change_lesion()
    _change_job()
    _add_followup()
    _add_course()
    for statement in _SQLITE_TRIGGERS if _on_sqlite() else _POSTGRESQL_TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("versions and reviews have no place in schema 0001")


def _change_patient() -> None:
    with op.batch_alter_table("patient") as batch:
        batch.add_column(
            sa.Column("search_key", sa.Text(), server_default="", nullable=False)
        )
        batch.add_column(sa.Column("touched_at", _TIME, nullable=True))
        batch.add_column(
            sa.Column(
                "erasing", sa.Boolean(), server_default=sa.text("false"), nullable=False
            )
        )
    op.execute(
        """
        UPDATE patient SET touched_at = coalesce(
            (
                SELECT max(result.created_at) FROM result
                JOIN series ON series.series_uid = result.series_uid
                JOIN study ON study.study_uid = series.study_uid
                WHERE study.patient_key = patient.id
            ),
            created_at
        )
        """
    )
    _fold_names()
    with op.batch_alter_table("patient") as batch:
        batch.alter_column("touched_at", existing_type=_TIME, nullable=False)
    op.create_index("ix_patient_search", "patient", ["search_key", "id"])
    op.create_index("ix_patient_touched_at", "patient", ["touched_at"])


def _fold_names() -> None:
    patient = sa.table(
        "patient",
        *(sa.column(name) for name in ("id", "name", "patient_id", "search_key")),
    )
    connection = op.get_bind()
    rows = connection.execute(
        sa.select(patient.c.id, patient.c.name, patient.c.patient_id)
    ).all()
    keys = [
        {"key": key, "search_key": _search_key(name, patient_id)}
        for key, name, patient_id in rows
    ]
    if keys:
        connection.execute(
            sa.update(patient)
            .where(patient.c.id == sa.bindparam("key"))
            .values(search_key=sa.bindparam("search_key")),
            keys,
        )


def _search_key(name: str | None, patient_id: str | None) -> str:
    """As ``db.encoding.search_key`` was when this migration was written."""
    return f"{_fold(name or '')[:384]} {_fold(patient_id or '')[:128]}".strip()


_PLAIN = str.maketrans(
    {"^": " ", "=": " ", "œ": "oe", "æ": "ae", "ø": "o", "đ": "d", "ł": "l"}
)


def _fold(text: str) -> str:
    plain = "".join(
        character
        for character in unicodedata.normalize("NFKD", text)
        if not unicodedata.combining(character)
    )
    return " ".join(plain.casefold().translate(_PLAIN).split())


def _change_result() -> None:
    with op.batch_alter_table("result") as batch:
        batch.add_column(
            sa.Column("origin", sa.Text(), server_default="model", nullable=False)
        )
        batch.add_column(sa.Column("predecessor_id", sa.String(32), nullable=True))
        for name in ("version", "revision"):
            batch.add_column(
                sa.Column(name, sa.Integer(), server_default="1", nullable=False)
            )
        batch.add_column(sa.Column("author", sa.Text(), nullable=True))
        batch.add_column(
            sa.Column("note", sa.Text(), server_default="", nullable=False)
        )
        batch.add_column(sa.Column("spacing_mm", _JSON, nullable=True))
        batch.add_column(sa.Column("slice_thickness_mm", sa.Double(), nullable=True))
        batch.add_column(sa.Column("segmentation_label", sa.Text(), nullable=True))
        batch.add_column(sa.Column("signed_by", sa.Text(), nullable=True))
        batch.add_column(sa.Column("signed_at", _TIME, nullable=True))
        batch.alter_column(
            "model_sha256", existing_type=sa.String(length=64), nullable=True
        )
        batch.drop_constraint(op.f("uq_result_segmentation_sop_uid"), type_="unique")
        batch.drop_constraint(op.f("ck_result_state"), type_="check")
        batch.create_foreign_key(
            op.f("fk_result_predecessor_id"), "result", ["predecessor_id"], ["id"]
        )
        for name, condition in _RESULT_CHECKS.items():
            batch.create_check_constraint(op.f(f"ck_result_{name}"), condition)
    op.create_index(
        "ix_result_segmentation_sop_uid", "result", ["segmentation_sop_uid"]
    )
    _create_unique_index(
        "uq_result_segmentation",
        "result",
        "segmentation_sop_uid",
        where="predecessor_id IS NULL",
    )
    _create_unique_index(
        "uq_result_successor",
        "result",
        "predecessor_id",
        where="predecessor_id IS NOT NULL",
    )


def _create_unique_index(name: str, table: str, *columns: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        name,
        table,
        list(columns),
        unique=True,
        sqlite_where=condition,
        postgresql_where=condition,
    )


_RESULT_CHECKS = {
    "state": "state IN ('unverified', 'accepted', 'edited', 'rejected', 'signed')",
    "origin": "origin IN ('model', 'reader', 'import')",
    "revision": "revision >= 1",
    "version": "version >= 1 AND (version = 1) = (predecessor_id IS NULL)",
    "model_result": "origin <> 'model' OR (model_sha256 IS NOT NULL"
    " AND predecessor_id IS NULL)",
    "reader_has_name": "origin = 'model' OR"
    " (author IS NOT NULL AND length(author) >= 1)",
    "signed_has_signer": "(state = 'signed') = (signed_by IS NOT NULL)"
    " AND (signed_by IS NULL) = (signed_at IS NULL)",
    "slice_thickness_mm": "slice_thickness_mm > 0 AND slice_thickness_mm <= 1000",
}
_LESION_CHECKS = {
    "diameter_3d_mm": "diameter_3d_mm > 0 AND diameter_3d_mm <= 1000",
    "review": "review IN ('unverified', 'accepted', 'rejected')",
    "method": "method IN ('probability-contour', 'mask-contour')",
    "algorithm_type": "algorithm_type IN ('AUTOMATIC', 'SEMIAUTOMATIC', 'MANUAL')",
    "finding_uid_length": "length(finding_uid) BETWEEN 1 AND 64",
}


def _change_lesion() -> None:
    with op.batch_alter_table("lesion") as batch:
        batch.add_column(sa.Column("finding_uid", sa.String(64), nullable=True))
        batch.add_column(
            sa.Column("review", sa.Text(), server_default="unverified", nullable=False)
        )
        batch.add_column(sa.Column("diameter_3d_mm", sa.Double(), nullable=True))
        batch.add_column(sa.Column("diameter_3d_axis_mm", _JSON, nullable=True))
        batch.add_column(sa.Column("measurable", sa.Boolean(), nullable=True))
        batch.add_column(
            sa.Column("measurable_reasons", _JSON, server_default="[]", nullable=False)
        )
        for name, default in (
            ("method", "probability-contour"),
            ("algorithm_type", "AUTOMATIC"),
        ):
            batch.add_column(
                sa.Column(name, sa.Text(), server_default=default, nullable=False)
            )
    op.execute("UPDATE lesion SET finding_uid = tracking_uid")
    with op.batch_alter_table("lesion") as batch:
        batch.alter_column(
            "finding_uid", existing_type=sa.String(length=64), nullable=False
        )
        for name in ("probability", "peak_probability"):
            batch.alter_column(name, existing_type=sa.Double(), nullable=True)
        for name, condition in _LESION_CHECKS.items():
            batch.create_check_constraint(op.f(f"ck_lesion_{name}"), condition)
        batch.create_unique_constraint(
            op.f("uq_lesion_result_id_finding_uid"), ["result_id", "finding_uid"]
        )
    op.create_index("ix_lesion_finding_uid", "lesion", ["finding_uid"])


def _change_job() -> None:
    """Let jobs of other kinds succeed without a result, and let one be erased."""
    condition = (
        "(state = 'succeeded' AND kind = 'segmentation' AND study_uid <> '2.25.0')"
        " = (result_id IS NOT NULL)"
    )
    if _on_sqlite():
        # Rebuilding the table would carry this index over without its DESC.
        op.drop_index("ix_job_waiting", "job")
    with op.batch_alter_table("job") as batch:
        batch.drop_constraint(op.f("ck_job_result"), type_="check")
        batch.create_check_constraint(op.f("ck_job_result"), condition)
    if _on_sqlite():
        op.create_index(
            "ix_job_waiting",
            "job",
            [
                sa.text("priority DESC"),
                "created_at",
                "id",
                "queue",
                "not_before",
                "state",
            ],
            sqlite_where=sa.text("state = 'queued'"),
        )


def _add_followup() -> None:
    op.create_table('track',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('patient_key', sa.String(length=32), nullable=False),
    sa.Column('tracking_uid', sa.String(length=64), nullable=False),
    sa.Column('label', sa.String(length=64), nullable=False),
    sa.Column('role', sa.Text(), nullable=True),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('compartment', sa.Text(), nullable=False),
    sa.Column('split_from', sa.String(length=32), nullable=True),
    sa.Column('progressed_since_treatment', sa.Boolean(), nullable=True),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('created_at', _TIME, nullable=False),
    sa.CheckConstraint("compartment IN ('cns', 'extracranial')", name=op.f('ck_track_compartment')),
    sa.CheckConstraint("kind IN ('parenchymal', 'solid_nodule', 'cystic_only', 'dural', 'bone', 'leptomeningeal', 'ill_defined', 'soft_tissue')", name=op.f('ck_track_kind')),
    sa.CheckConstraint("role IN ('target', 'non_target')", name=op.f('ck_track_role')),
    sa.CheckConstraint('length(label) BETWEEN 1 AND 64', name=op.f('ck_track_label_length')),
    sa.CheckConstraint('length(tracking_uid) BETWEEN 1 AND 64', name=op.f('ck_track_tracking_uid_length')),
    sa.CheckConstraint('revision >= 1', name=op.f('ck_track_revision')),
    sa.CheckConstraint('split_from <> id', name=op.f('ck_track_split_from')),
    sa.ForeignKeyConstraint(['patient_key'], ['patient.id'], name=op.f('fk_track_patient_key')),
    sa.ForeignKeyConstraint(['split_from'], ['track.id'], name=op.f('fk_track_split_from')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_track')),
    sa.UniqueConstraint('patient_key', 'label', name=op.f('uq_track_patient_key_label')),
    sa.UniqueConstraint('tracking_uid', name=op.f('uq_track_tracking_uid'))
    )
    op.create_index('ix_track_split_from', 'track', ['split_from'])
    op.create_table('track_member',
    sa.Column('study_uid', sa.String(length=64), nullable=False),
    sa.Column('finding_uid', sa.String(length=64), nullable=False),
    sa.Column('track_id', sa.String(length=32), nullable=False),
    sa.Column('relation', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('cost_mm', sa.Double(), nullable=True),
    sa.Column('method', sa.Text(), nullable=False),
    sa.Column('by', sa.Text(), nullable=True),
    sa.Column('at', _TIME, nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.CheckConstraint("relation IN ('first', 'same', 'new', 'split', 'merge', 'reappeared')", name=op.f('ck_track_member_relation')),
    sa.CheckConstraint("state IN ('automatic', 'pending', 'confirmed')", name=op.f('ck_track_member_state')),
    sa.CheckConstraint('cost_mm >= 0 AND cost_mm <= 100000', name=op.f('ck_track_member_cost_mm')),
    sa.CheckConstraint('length(finding_uid) BETWEEN 1 AND 64', name=op.f('ck_track_member_finding_uid_length')),
    sa.ForeignKeyConstraint(['study_uid'], ['study.study_uid'], name=op.f('fk_track_member_study_uid')),
    sa.ForeignKeyConstraint(['track_id'], ['track.id'], name=op.f('fk_track_member_track_id')),
    sa.PrimaryKeyConstraint('study_uid', 'finding_uid', name=op.f('pk_track_member')),
    sa.UniqueConstraint('track_id', 'study_uid', name=op.f('uq_track_member_track_id_study_uid'))
    )
    op.create_table('track_reading',
    sa.Column('track_id', sa.String(length=32), nullable=False),
    sa.Column('study_uid', sa.String(length=64), nullable=False),
    sa.Column('state', sa.Text(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('into_track_id', sa.String(length=32), nullable=True),
    sa.Column('treated_on', sa.Date(), nullable=True),
    sa.Column('modality', sa.Text(), nullable=False),
    sa.Column('radionecrosis_suspected', sa.Boolean(), nullable=False),
    sa.Column('certainty', sa.Text(), nullable=True),
    sa.Column('projections', sa.Integer(), nullable=True),
    sa.Column('reappearance', sa.Text(), nullable=False),
    sa.Column('author', sa.Text(), nullable=False),
    sa.Column('updated_at', _TIME, nullable=False),
    sa.CheckConstraint("(state IS NOT NULL AND state = 'merged') = (into_track_id IS NOT NULL)", name=op.f('ck_track_reading_merged')),
    sa.CheckConstraint("certainty IN ('unequivocal', 'equivocal', 'not_tumour')", name=op.f('ck_track_reading_certainty')),
    sa.CheckConstraint("reappearance IN ('tumour', 'not_tumour', 'undetermined')", name=op.f('ck_track_reading_reappearance')),
    sa.CheckConstraint("state IN ('too_small', 'absent', 'not_assessed', 'merged', 'split', 'locally_treated')", name=op.f('ck_track_reading_state')),
    sa.CheckConstraint("state IS NULL OR state <> 'locally_treated' OR (treated_on IS NOT NULL AND length(modality) >= 1)", name=op.f('ck_track_reading_treated')),
    sa.CheckConstraint("state IS NULL OR state <> 'not_assessed' OR length(reason) >= 1", name=op.f('ck_track_reading_not_assessed')),
    sa.CheckConstraint('into_track_id <> track_id', name=op.f('ck_track_reading_into_track_id')),
    sa.CheckConstraint('length(author) >= 1', name=op.f('ck_track_reading_author')),
    sa.CheckConstraint('projections >= 1', name=op.f('ck_track_reading_projections')),
    sa.ForeignKeyConstraint(['into_track_id'], ['track.id'], name=op.f('fk_track_reading_into_track_id')),
    sa.ForeignKeyConstraint(['study_uid'], ['study.study_uid'], name=op.f('fk_track_reading_study_uid')),
    sa.ForeignKeyConstraint(['track_id'], ['track.id'], name=op.f('fk_track_reading_track_id')),
    sa.PrimaryKeyConstraint('track_id', 'study_uid', name=op.f('pk_track_reading'))
    )
    op.create_index('ix_track_reading_into_track_id', 'track_reading', ['into_track_id'])
    op.create_index('ix_track_reading_study_uid', 'track_reading', ['study_uid'])
    op.create_table('link_decision',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), sa.Identity(always=True), nullable=False),
    sa.Column('patient_key', sa.String(length=32), nullable=False),
    sa.Column('study_uid', sa.String(length=64), nullable=False),
    sa.Column('finding_uid', sa.String(length=64), nullable=False),
    sa.Column('action', sa.Text(), nullable=False),
    sa.Column('track_id', sa.String(length=32), nullable=True),
    sa.Column('by', sa.Text(), nullable=False),
    sa.Column('at', _TIME, nullable=False),
    sa.Column('undone_by', sa.Text(), nullable=True),
    sa.Column('undone_at', _TIME, nullable=True),
    sa.CheckConstraint("action <> 'link' OR track_id IS NOT NULL", name=op.f('ck_link_decision_link_has_track')),
    sa.CheckConstraint("action IN ('link', 'new', 'unlink', 'confirm')", name=op.f('ck_link_decision_action')),
    sa.CheckConstraint('(undone_by IS NULL) = (undone_at IS NULL)', name=op.f('ck_link_decision_undone')),
    sa.CheckConstraint('length(by) >= 1', name=op.f('ck_link_decision_by')),
    sa.CheckConstraint('length(finding_uid) BETWEEN 1 AND 64', name=op.f('ck_link_decision_finding_uid_length')),
    sa.ForeignKeyConstraint(['patient_key'], ['patient.id'], name=op.f('fk_link_decision_patient_key')),
    sa.ForeignKeyConstraint(['study_uid'], ['study.study_uid'], name=op.f('fk_link_decision_study_uid')),
    sa.ForeignKeyConstraint(['track_id'], ['track.id'], name=op.f('fk_link_decision_track_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_link_decision'))
    )
    op.create_index('ix_link_decision_patient', 'link_decision', ['patient_key', 'id'])
    op.create_index('ix_link_decision_study_uid', 'link_decision', ['study_uid'])
    op.create_index('ix_link_decision_track_id', 'link_decision', ['track_id'])
    op.create_table('registration',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('moving_series_uid', sa.String(length=64), nullable=False),
    sa.Column('fixed_series_uid', sa.String(length=64), nullable=False),
    sa.Column('matrix', _JSON, nullable=True),
    sa.Column('quality', sa.Double(), nullable=True),
    sa.Column('accepted', sa.Boolean(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('method', sa.Text(), nullable=False),
    sa.Column('created_at', _TIME, nullable=False),
    sa.CheckConstraint('NOT accepted OR matrix IS NOT NULL', name=op.f('ck_registration_accepted_has_matrix')),
    sa.CheckConstraint('moving_series_uid <> fixed_series_uid', name=op.f('ck_registration_two_series')),
    sa.CheckConstraint('quality >= -1000000 AND quality <= 1000000', name=op.f('ck_registration_quality')),
    sa.ForeignKeyConstraint(['fixed_series_uid'], ['series.series_uid'], name=op.f('fk_registration_fixed_series_uid')),
    sa.ForeignKeyConstraint(['moving_series_uid'], ['series.series_uid'], name=op.f('fk_registration_moving_series_uid')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_registration')),
    sa.UniqueConstraint('moving_series_uid', 'fixed_series_uid', name=op.f('uq_registration_moving_series_uid_fixed_series_uid'))
    )
    op.create_index('ix_registration_fixed_series_uid', 'registration', ['fixed_series_uid'])


def _add_course() -> None:
    op.create_table('visit_reading',
    sa.Column('study_uid', sa.String(length=64), nullable=False),
    sa.Column('selected_result_id', sa.String(length=32), nullable=True),
    sa.Column('steroid_use', sa.Text(), nullable=False),
    sa.Column('steroid_change', sa.Text(), nullable=True),
    sa.Column('steroid_dose_tenths_mg', sa.Integer(), nullable=True),
    sa.Column('clinical', sa.Text(), nullable=False),
    sa.Column('non_target', sa.Text(), nullable=True),
    sa.Column('technique_changed', sa.Boolean(), nullable=False),
    sa.Column('extracranial_response', sa.Text(), nullable=False),
    sa.Column('note', sa.Text(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('author', sa.Text(), nullable=False),
    sa.Column('updated_at', _TIME, nullable=False),
    sa.CheckConstraint("clinical IN ('stable', 'better', 'worse_due_to_tumour', 'worse_other_cause', 'not_recorded')", name=op.f('ck_visit_reading_clinical')),
    sa.CheckConstraint("extracranial_response IN ('CR', 'PR', 'SD', 'NON_CR_NON_PD', 'PD', 'NE', 'not_recorded')", name=op.f('ck_visit_reading_extracranial_response')),
    sa.CheckConstraint("non_target IN ('none', 'complete_response', 'non_cr_non_pd', 'unequivocal_progression', 'not_assessed')", name=op.f('ck_visit_reading_non_target')),
    sa.CheckConstraint("steroid_change IN ('stable', 'decreased', 'increased', 'not_recorded')", name=op.f('ck_visit_reading_steroid_change')),
    sa.CheckConstraint("steroid_use IN ('none', 'physiological', 'pharmacological', 'not_recorded')", name=op.f('ck_visit_reading_steroid_use')),
    sa.CheckConstraint('length(author) >= 1', name=op.f('ck_visit_reading_author')),
    sa.CheckConstraint('revision >= 1', name=op.f('ck_visit_reading_revision')),
    sa.CheckConstraint('steroid_dose_tenths_mg >= 0 AND steroid_dose_tenths_mg <= 100000', name=op.f('ck_visit_reading_steroid_dose_tenths_mg')),
    sa.ForeignKeyConstraint(['selected_result_id'], ['result.id'], name=op.f('fk_visit_reading_selected_result_id')),
    sa.ForeignKeyConstraint(['study_uid'], ['study.study_uid'], name=op.f('fk_visit_reading_study_uid')),
    sa.PrimaryKeyConstraint('study_uid', name=op.f('pk_visit_reading'))
    )
    op.create_index('ix_visit_reading_selected_result_id', 'visit_reading', ['selected_result_id'])
    op.create_table('course_plan',
    sa.Column('patient_key', sa.String(length=32), nullable=False),
    sa.Column('treatment_start', sa.Date(), nullable=True),
    sa.Column('immunotherapy_start', sa.Date(), nullable=True),
    sa.Column('baseline_study_uid', sa.String(length=64), nullable=True),
    sa.Column('rule_set', sa.Text(), nullable=False),
    sa.Column('protocol', _JSON, nullable=False),
    sa.Column('resets', _JSON, nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('author', sa.Text(), nullable=False),
    sa.Column('updated_at', _TIME, nullable=False),
    sa.CheckConstraint('length(author) >= 1', name=op.f('ck_course_plan_author')),
    sa.CheckConstraint('length(rule_set) BETWEEN 1 AND 64', name=op.f('ck_course_plan_rule_set_length')),
    sa.CheckConstraint('revision >= 1', name=op.f('ck_course_plan_revision')),
    sa.ForeignKeyConstraint(['baseline_study_uid'], ['study.study_uid'], name=op.f('fk_course_plan_baseline_study_uid')),
    sa.ForeignKeyConstraint(['patient_key'], ['patient.id'], name=op.f('fk_course_plan_patient_key')),
    sa.PrimaryKeyConstraint('patient_key', name=op.f('pk_course_plan'))
    )
    op.create_index('ix_course_plan_baseline_study_uid', 'course_plan', ['baseline_study_uid'])
    op.create_table('course_event',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('patient_key', sa.String(length=32), nullable=False),
    sa.Column('date', sa.Date(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('track_id', sa.String(length=32), nullable=True),
    sa.Column('author', sa.Text(), nullable=False),
    sa.Column('created_at', _TIME, nullable=False),
    sa.CheckConstraint('length(author) >= 1', name=op.f('ck_course_event_author')),
    sa.CheckConstraint('length(kind) BETWEEN 1 AND 64', name=op.f('ck_course_event_kind_length')),
    sa.ForeignKeyConstraint(['patient_key'], ['patient.id'], name=op.f('fk_course_event_patient_key')),
    sa.ForeignKeyConstraint(['track_id'], ['track.id'], name=op.f('fk_course_event_track_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_course_event'))
    )
    op.create_index('ix_course_event_patient', 'course_event', ['patient_key', 'date'])
    op.create_index('ix_course_event_track_id', 'course_event', ['track_id'])
    op.create_table('assessment',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('patient_key', sa.String(length=32), nullable=False),
    sa.Column('study_uid', sa.String(length=64), nullable=False),
    sa.Column('rule_set', sa.Text(), nullable=False),
    sa.Column('rules_version', sa.Text(), nullable=False),
    sa.Column('proposed_category', sa.Text(), nullable=False),
    sa.Column('category', sa.Text(), nullable=False),
    sa.Column('comment', sa.Text(), nullable=False),
    sa.Column('case_json', _JSON, nullable=False),
    sa.Column('document_json', _JSON, nullable=False),
    sa.Column('inputs_sha256', sa.String(length=64), nullable=False),
    sa.Column('supersedes_id', sa.String(length=32), nullable=True),
    sa.Column('signed_by', sa.Text(), nullable=False),
    sa.Column('signed_at', _TIME, nullable=False),
    sa.CheckConstraint('length(category) BETWEEN 1 AND 64', name=op.f('ck_assessment_category_length')),
    sa.CheckConstraint('length(inputs_sha256) = 64', name=op.f('ck_assessment_inputs_sha256_length')),
    sa.CheckConstraint('length(proposed_category) BETWEEN 1 AND 64', name=op.f('ck_assessment_proposed_category_length')),
    sa.CheckConstraint('length(rule_set) BETWEEN 1 AND 64', name=op.f('ck_assessment_rule_set_length')),
    sa.CheckConstraint('length(rules_version) BETWEEN 1 AND 64', name=op.f('ck_assessment_rules_version_length')),
    sa.CheckConstraint('length(signed_by) >= 1', name=op.f('ck_assessment_signed_by')),
    sa.ForeignKeyConstraint(['patient_key'], ['patient.id'], name=op.f('fk_assessment_patient_key')),
    sa.ForeignKeyConstraint(['study_uid'], ['study.study_uid'], name=op.f('fk_assessment_study_uid')),
    sa.ForeignKeyConstraint(['supersedes_id'], ['assessment.id'], name=op.f('fk_assessment_supersedes_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_assessment'))
    )
    op.create_index('ix_assessment_patient_key', 'assessment', ['patient_key'])
    op.create_index('ix_assessment_study', 'assessment', ['study_uid', 'signed_at'])
    _create_unique_index('uq_assessment_first', 'assessment', 'study_uid', 'rule_set', where='supersedes_id IS NULL')
    _create_unique_index('uq_assessment_successor', 'assessment', 'supersedes_id', where='supersedes_id IS NOT NULL')

"""What the database promises about schema, results, people and audit, on both kinds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text

from db import audit, models_registry, schema, users
from db.engine import Engine, Session, is_postgresql, make_engine, reading, transaction
from db.models import (
    Base,
    LesionRow,
    PatientRow,
    PromotionRow,
    ResultRow,
    StudyRow,
    UserRow,
)
from db.results import get_lesion, get_result, list_results, record_result
from db.studies import Patient, Series, Study, patient_of_study, upsert_study
from errors import MetiaError
from tests.contract.sample_rows import (
    SERIES_UID,
    STUDY_UID,
    add_study,
    make_lesion,
    make_model,
    make_record,
)

# -- schema --------------------------------------------------------------------


def test_migrations_lead_to_the_models(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, Base.metadata)
    if not is_postgresql(engine):
        # SQLAlchemy does not read the DESC of an index back from SQLite; the next test
        # compares this one.
        found = [one for one in found if one[1].name != "ix_job_waiting"]
    assert found == []


def test_migrations_make_the_same_rules_as_the_models(
    engine: Engine, empty_database_url: str, database_kind: str, tmp_path: Path
) -> None:
    """Alembic compares neither checks nor the conditions of partial indexes."""
    if database_kind == "sqlite":
        empty_database_url = f"sqlite:///{tmp_path / 'from_models.sqlite'}"
    other = make_engine(empty_database_url)
    with other.begin() as connection:
        Base.metadata.create_all(connection)
    assert rules(engine) == rules(other)
    other.dispose()


def rules(engine: Engine) -> dict[str, object]:
    """Everything the database enforces, table by table."""
    inspector = inspect(engine)

    def told(found: Sequence[object]) -> list[str]:
        return sorted(json.dumps(one, default=str, sort_keys=True) for one in found)

    answer: dict[str, object] = {}
    for table in set(inspector.get_table_names()) - {"alembic_version"}:
        answer[table] = {
            "columns": [
                (c["name"], str(c["type"]), c["nullable"])
                for c in inspector.get_columns(table)
            ],
            "checks": told(inspector.get_check_constraints(table)),
            "indexes": told(inspector.get_indexes(table)),
            "unique": told(inspector.get_unique_constraints(table)),
            "foreign": told(inspector.get_foreign_keys(table)),
            "primary": str(inspector.get_pk_constraint(table)),
        }
    if not is_postgresql(engine):
        # The inspector leaves out indexes over expressions on SQLite.
        with engine.connect() as connection:
            found = connection.execute(
                text("SELECT sql FROM sqlite_master WHERE name = 'ix_job_waiting'")
            )
            answer["ix_job_waiting"] = found.scalar_one()
    return answer


def test_upgrade_of_empty_database(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    assert schema.current(engine) is None
    with pytest.raises(MetiaError, match="database-unusable"):
        schema.require_current(engine)
    assert schema.upgrade(engine)
    assert schema.current(engine) == schema.head()
    schema.require_current(engine)
    assert not schema.upgrade(engine)
    engine.dispose()


def test_upgrades_at_once_happen_once(empty_database_url: str) -> None:
    engines = [make_engine(empty_database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(schema.upgrade, engines))
    assert sorted(done) == [False, False, False, True]
    for engine in engines:
        schema.require_current(engine)
        engine.dispose()


def test_database_of_a_newer_program_is_refused(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for call in (schema.require_current, schema.upgrade):
        with pytest.raises(MetiaError, match="database-unusable") as caught:
            call(engine)
        assert "9999" in caught.value.detail


@pytest.fixture
def with_another_migration(tmp_path: Path) -> Callable[[str], Path]:
    """Give the product's migrations with one more, that does what is given."""

    def make(body: str) -> Path:
        scripts = tmp_path / "migrations"
        shutil.copytree(schema.__file__.replace("schema.py", "migrations"), scripts)
        (scripts / "versions" / "more.py").write_text(
            "import sqlalchemy as sa\nfrom alembic import op\n"
            f"revision = 'more'\ndown_revision = '{schema.head()}'\n"
            f"def upgrade():\n{body}\n"
        )
        return scripts

    return make


def test_upgrade_rebuilds_a_table_that_others_refer_to(
    engine: Engine, with_another_migration: Callable[[str], Path]
) -> None:
    add_study(engine)
    scripts = with_another_migration(
        "    with op.batch_alter_table('patient') as batch:\n"
        "        batch.alter_column('sex', new_column_name='gender')"
    )
    assert schema.upgrade(engine, scripts=scripts)
    with transaction(engine) as session:
        assert session.scalar(text("SELECT count(*) FROM study")) == 1
        assert session.execute(text("SELECT gender FROM patient")).all() == [(None,)]
    with pytest.raises(MetiaError, match="conflict"), transaction(engine) as session:
        session.execute(text("DELETE FROM patient"))  # keys are enforced again


def test_failed_upgrade_leaves_everything_as_it_was(
    engine: Engine, with_another_migration: Callable[[str], Path]
) -> None:
    add_study(engine)
    scripts = with_another_migration(
        "    op.create_table('extra', sa.Column('id', sa.Integer()))\n"
        "    op.execute('DELETE FROM series')\n"
        "    op.execute('SELECT * FROM no_such_table')"
    )
    with pytest.raises(MetiaError, match="database-unusable"):
        schema.upgrade(engine, scripts=scripts)
    schema.require_current(engine)
    assert "extra" not in inspect(engine).get_table_names()
    with reading(engine) as session:
        assert session.scalar(text("SELECT count(*) FROM series")) == 1


def test_sqlite_is_copied_before_an_upgrade(
    database_kind: str,
    engine: Engine,
    tmp_path: Path,
    with_another_migration: Callable[[str], Path],
) -> None:
    if database_kind != "sqlite":
        return  # PostgreSQL has backups of its own
    add_study(engine)
    schema.upgrade(engine, scripts=with_another_migration("    pass"))
    backup = tmp_path / f"metia.sqlite.before-upgrade-from-{schema.head()}"
    assert backup.stat().st_mode & 0o777 == 0o600
    copy = make_engine(f"sqlite:///{backup}")
    assert schema.current(copy) == schema.head()
    with reading(copy) as session:
        assert session.scalar(text("SELECT count(*) FROM study")) == 1
    copy.dispose()


# -- rules ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("lesion", "volume_ml = 0"),
        ("lesion", "volume_ml = -1"),
        ("lesion", "longest_diameter_mm = 0"),
        ("lesion", "perpendicular_diameter_mm = 7.6"),
        ("lesion", "perpendicular_diameter_mm = -0.1"),
        ("lesion", "probability = 1.01"),
        ("lesion", "peak_probability = -0.01"),
        ("lesion", "segment_number = 0"),
        ("lesion", "frame_number = 0"),
        ("lesion", "slice_count = 0"),
        ("lesion", "voxel_count = 0"),
        ("lesion", "slice_index = -1"),
        ("lesion", "tracking_uid = ''"),
        ("lesion", f"sop_instance_uid = '{'1' * 65}'"),
        ("lesion", "result_id = 'none'"),
        ("result", "state = 'verified-by-nobody'"),
        ("result", "segmentation_sop_uid = NULL"),
        ("result", "series_uid = '9.9'"),
        ("result", f"model_sha256 = '{'f' * 64}'"),
        ("result", "instance_count = 0"),
        ("job", "progress = 1.5"),
        ("job", "progress = -0.1"),
        ("job", "state = 'lost'"),
        ("job", "state = 'running'"),
        ("job", "state = 'succeeded', finished_at = created_at"),
        ("job", "state = 'failed', finished_at = created_at"),
        ("job", "lease_until = created_at"),
        ("job", "cancel_requested = true"),
        ("job", "priority = 101"),
        ("job", "deaths = 4"),
        ("job", "study_uid = ''"),
        ("job", "result_id = 'none'"),
        ("app_user", "role = 'root'"),
        ("app_user", "name = ''"),
        ("study", "patient_key = 'none'"),
        ("series", "study_uid = 'none'"),
        ("model", "sha256 = 'short'"),
    ],
)
def test_database_refuses(engine: Engine, table: str, change: str) -> None:
    fill_every_table(engine)
    with (
        pytest.raises(MetiaError, match=r"conflict|invalid-input"),
        transaction(engine) as session,
    ):
        session.execute(text(f"UPDATE {table} SET {change}"))


def test_database_refuses_numbers_that_are_none(engine: Engine) -> None:
    add_study(engine)
    for value in (float("nan"), float("inf")):
        lesion = replace(make_lesion(), volume_ml=value)
        record = replace(make_record(), lesions=(lesion,))
        with pytest.raises(MetiaError, match="conflict"), transaction(engine) as s:
            record_result(s, record)


def fill_every_table(engine: Engine) -> None:
    from segmentation.jobs import JobQueue
    from settings import Settings

    JobQueue(engine, Settings()).submit(STUDY_UID)
    add_study(engine)
    with transaction(engine) as session:
        record_result(session, make_record(lesions=1))
        users.create_user(
            session, name="ann", display_name="A", role="viewer", password_hash=None
        )


# -- studies -------------------------------------------------------------------


def upsert(engine: Engine, patient: Patient, study: str = "1.2.3") -> None:
    with transaction(engine) as session:
        upsert_study(session, patient, Study(study), Series(f"{study}.1"))


def count(engine: Engine, row: type[Base]) -> int:
    with reading(engine) as session:
        return len(session.scalars(select(row)).all())


def test_everything_about_a_patient_is_optional(engine: Engine) -> None:
    upsert(engine, Patient())
    with reading(engine) as session:
        assert patient_of_study(session, "1.2.3") == Patient()
        assert patient_of_study(session, "1.2.9") is None


def test_sex_and_dates_are_taken_as_they_come(engine: Engine) -> None:
    patient = Patient("x", "hospital", "Sample^Phantom=样本^幻影", "189", "divers")
    upsert(engine, patient)
    with reading(engine) as session:
        assert patient_of_study(session, "1.2.3") == patient


def test_studies_without_patient_id_never_share_a_patient(engine: Engine) -> None:
    for _ in range(2):
        upsert(engine, Patient(name="Same"), "1.2.3")
        upsert(engine, Patient(name="Same", patient_id="  "), "1.2.4")
    assert count(engine, PatientRow) == 2


def test_patient_id_means_something_only_with_its_issuer(engine: Engine) -> None:
    upsert(engine, Patient("7", "here"), "1.2.3")
    upsert(engine, Patient("7", "there"), "1.2.4")
    upsert(engine, Patient("7"), "1.2.5")
    upsert(engine, Patient("7", "here"), "1.2.6")
    assert count(engine, PatientRow) == 3


def test_study_moves_to_the_patient_it_is_corrected_to(engine: Engine) -> None:
    upsert(engine, Patient(name="Unknown"))
    upsert(engine, Patient("7", name="Known"))
    upsert(engine, Patient("8"))
    with reading(engine) as session:
        found = patient_of_study(session, "1.2.3")
        assert found is not None
        assert found.patient_id == "8"
    assert count(engine, PatientRow) == 2  # the nameless one is gone


def test_texts_no_database_can_hold_are_mended(engine: Engine) -> None:
    upsert(engine, Patient("7\0", name="A\ud800B" + "x" * 5000))
    with reading(engine) as session:
        patient = patient_of_study(session, "1.2.3")
        assert patient is not None
        assert patient.patient_id == "7\ufffd"
        assert patient.name is not None
        assert patient.name.startswith("A\ufffdB")
        assert len(patient.name) == 1024


def test_same_study_from_many_sides_is_kept_once(engine: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        for patient in (Patient("7"), Patient(), Patient("8")):
            list(pool.map(lambda _, p=patient: upsert(engine, p), range(8)))
    assert count(engine, StudyRow) == 1
    assert count(engine, PatientRow) <= 3


def test_series_of_another_study_is_refused(engine: Engine) -> None:
    add_study(engine)
    with pytest.raises(MetiaError, match="conflict"):
        add_study(engine, "1.2.9", SERIES_UID)
    assert count(engine, StudyRow) == 1


# -- results -------------------------------------------------------------------


def record(engine: Engine, **other: object) -> str:
    with transaction(engine) as session:
        return record_result(session, make_record(**other))  # type: ignore[arg-type]


def test_result_comes_back_as_it_was_recorded(engine: Engine) -> None:
    add_study(engine)
    result_id = record(engine)
    with reading(engine) as session:
        result = get_result(session, result_id)
        assert list_results(session, STUDY_UID) == (result,)
        assert get_lesion(session, result.lesions[1].id) == result.lesions[1]
    given = make_record()
    for name in given.__dataclass_fields__:
        if name not in {"lesions", "state"}:
            assert getattr(result, name) == getattr(given, name), name
    assert result.study_uid == STUDY_UID
    assert result.state == "unverified"
    assert result.created_at.tzinfo is UTC
    for lesion, expected in zip(result.lesions, given.lesions, strict=True):
        for name in expected.__dataclass_fields__:
            assert getattr(lesion, name) == getattr(expected, name), name
        assert lesion.result_id == result_id


def test_same_segmentation_is_recorded_once(engine: Engine) -> None:
    add_study(engine)
    first = record(engine)
    assert record(engine, device="cuda:0", timings_s={}) == first
    assert count(engine, ResultRow) == 1
    assert count(engine, LesionRow) == 2


def test_same_segmentation_with_other_lesions_is_a_contradiction(
    engine: Engine,
) -> None:
    add_study(engine)
    record(engine)
    with pytest.raises(MetiaError, match="conflict"):
        record(engine, lesions=3)


def test_no_lesion_is_a_result_recorded_once(engine: Engine) -> None:
    add_study(engine)
    first = record(engine, lesions=0)
    assert record(engine, lesions=0) == first
    others = [
        record(engine, lesions=0, model=make_model("c")),
        record(engine, lesions=0, parameters={"threshold": 0.6}),
        record(engine, lesions=0, inputs_sha256="d" * 64),
        record(engine),
    ]
    assert len({first, *others}) == 5
    with reading(engine) as session:
        result = get_result(session, first)
        assert (result.lesions, result.segmentation_sop_uid) == ((), None)
        assert [r.id for r in list_results(session, STUDY_UID)] == [
            *others[::-1],
            first,
        ]


def test_lesions_without_segmentation_are_refused(engine: Engine) -> None:
    add_study(engine)
    for lesions, uid in ((2, None), (0, "2.25.7")):
        with pytest.raises(MetiaError, match="invalid-input"):
            record(engine, lesions=lesions, segmentation_sop_uid=uid)


def test_recording_at_once_keeps_one(engine: Engine) -> None:
    add_study(engine)

    def attempt(_: int) -> str:
        try:
            return record(engine)
        except MetiaError as error:
            return error.code

    with ThreadPoolExecutor(6) as pool:
        answers = set(pool.map(attempt, range(6)))
    assert len(answers - {"conflict"}) == 1
    assert count(engine, ResultRow) == 1
    assert count(engine, LesionRow) == 2


def test_unknown_result_and_lesion(engine: Engine) -> None:
    with reading(engine) as session:
        for call in (get_result, get_lesion):
            with pytest.raises(MetiaError, match="not-found"):
                call(session, "none")
        assert list_results(session, "9.9") == ()


# -- models --------------------------------------------------------------------


def test_one_model_is_promoted(engine: Engine) -> None:
    with transaction(engine) as session:
        for letter in "abab":
            models_registry.register_model(session, make_model(letter))
        assert models_registry.promoted_model(session) is None
        for promotions, letter in enumerate("aba"):
            models_registry.promote_model(session, letter * 64, by="ada")
            promoted = models_registry.promoted_model(session)
            assert promoted is not None
            assert promoted.sha256 == letter * 64
            former = models_registry.former_model(session)
            before = {"a": "b", "b": "a"}[letter] if promotions else None
            assert (former and former.sha256[0]) == before
        models_registry.register_model(session, make_model("a"))
        assert [m.promoted for m in models_registry.list_models(session)] == [
            True,
            False,
        ]
        with pytest.raises(MetiaError, match="model-unknown"):
            models_registry.promote_model(session, "f" * 64)
    with pytest.raises(MetiaError, match="conflict"), transaction(engine) as session:
        session.execute(text("UPDATE model SET promoted = true"))


def test_promotions_are_withdrawn_one_by_one(engine: Engine) -> None:
    with transaction(engine) as session:
        for letter in "abc":
            models_registry.register_model(session, make_model(letter))
        # Promoting what is promoted already is no step to go back to.
        for letter in "abbac":
            models_registry.promote_model(session, letter * 64, by="ada")
        for expected in ("a", "b", "a", None):
            former = models_registry.former_model(session)
            models_registry.withdraw_promotion(session)
            promoted = models_registry.promoted_model(session)
            assert promoted == (former and replace(former, promoted=True))
            assert (promoted and promoted.sha256[0]) == expected
        with pytest.raises(MetiaError, match="conflict"):
            models_registry.withdraw_promotion(session)
    assert count(engine, PromotionRow) == 0


# -- people --------------------------------------------------------------------


def add_user(session: Session, name: str, role: users.Role = "viewer") -> users.User:
    return users.create_user(
        session, name=name, display_name=name.title(), role=role, password_hash="hash"
    )


def test_users_are_added_found_and_changed(engine: Engine) -> None:
    with transaction(engine) as session:
        assert users.count_users(session) == 0
        ann = add_user(session, "ann", "admin")
        assert users.find_user(session, "ann") == ann
        assert users.find_user(session, "bob") is None
        assert "hash" not in repr(ann)
        bob = add_user(session, "bob")
        changed = users.update_user(session, "bob", role="reviewer", display_name="B")
        assert changed == replace(bob, role="reviewer", display_name="B")
        assert users.list_users(session) == (ann, changed)
        with pytest.raises(MetiaError, match="conflict"):
            add_user(session, "ann")
        with pytest.raises(MetiaError, match="not-found"):
            users.update_user(session, "eve", active=False)


def test_last_administrator_stays(engine: Engine) -> None:
    with transaction(engine) as session:
        add_user(session, "ann", "admin")
        add_user(session, "bob", "admin")
    with transaction(engine) as session:
        users.update_user(session, "ann", active=False)
    for change in ({"active": False}, {"role": "viewer"}):
        with (
            pytest.raises(MetiaError, match="conflict"),
            transaction(engine) as session,
        ):
            users.update_user(session, "bob", **change)  # type: ignore[arg-type]


def test_two_administrators_cannot_remove_each_other(engine: Engine) -> None:
    with transaction(engine) as session:
        add_user(session, "ann", "admin")
        add_user(session, "bob", "admin")

    def switch_off(name: str) -> str:
        try:
            with transaction(engine) as session:
                users.update_user(session, name, active=False)
        except MetiaError as error:
            return error.code
        return "done"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(switch_off, ("ann", "bob"))) == ["conflict", "done"]


def test_sessions_end(engine: Engine) -> None:
    hour = timedelta(hours=1)
    with transaction(engine) as session:
        ann = add_user(session, "ann", "admin")
        add_user(session, "bob")
        users.open_session(session, user_name="ann", token_hash="t1", lifetime=hour)
        users.open_session(session, user_name="ann", token_hash="t2", lifetime=-hour)
        users.open_session(session, user_name="bob", token_hash="t3", lifetime=hour)
    with reading(engine) as session:
        assert users.find_session_user(session, "t1") == ann
        assert users.find_session_user(session, "t2") is None
        assert users.find_session_user(session, "none") is None
    with transaction(engine) as session:
        assert session.scalar(text("SELECT count(*) FROM user_session")) == 2
        users.close_session(session, "t1")
        users.close_session(session, "t1")
        assert users.find_session_user(session, "t1") is None
        users.update_user(session, "bob", display_name="B")
        assert users.find_session_user(session, "t3") is not None
        users.update_user(session, "bob", password_hash="new")
        assert users.find_session_user(session, "t3") is None


def test_tokens_work_until_taken_back(engine: Engine) -> None:
    now = datetime.now(UTC)
    with transaction(engine) as session:
        add_user(session, "ann", "admin")
        add_user(session, "bob")
        token = users.create_token(
            session, user_name="bob", label="script", token_hash="h1"
        )
        users.create_token(
            session,
            user_name="bob",
            label="old",
            token_hash="h2",
            expires_at=now - timedelta(days=1),
        )
        assert {t.label for t in users.list_tokens(session, "bob")} == {"script", "old"}
        found = users.find_token_user(session, "h1")
        assert found is not None
        assert (found[0].name, found[1]) == ("bob", token)
        assert users.find_token_user(session, "h2") is None
        users.touch_token(session, token.id)
        used_at = users.find_token_user(session, "h1")[1].last_used_at  # type: ignore[index]
        assert used_at is not None
        assert abs(used_at - now) < timedelta(minutes=5)
        with pytest.raises(MetiaError, match="not-found"):
            users.delete_token(session, token_id=token.id, user_name="ann")
        users.update_user(session, "bob", active=False)
        assert users.find_token_user(session, "h1") is None
        users.update_user(session, "bob", active=True)
        users.delete_token(session, token_id=token.id, user_name="bob")
        assert users.find_token_user(session, "h1") is None


# -- audit ---------------------------------------------------------------------


def test_audit_keeps_order_and_can_be_paged(engine: Engine) -> None:
    for number in range(5):
        with transaction(engine) as session:
            audit.append(
                session,
                actor="ann" if number % 2 else None,
                action="job-submitted",
                subject=f"job:{number % 2}",
                details={"number": number},
                request_id=f"r{number}",
            )
    with reading(engine) as session:
        first = audit.entries(session, limit=2)
        rest = audit.entries(session, before_id=first[-1].id)
        assert [e.details["number"] for e in (*first, *rest)] == [4, 3, 2, 1, 0]
        assert [e.request_id for e in audit.entries(session, subject="job:1")] == [
            "r3",
            "r1",
        ]
        assert first[0].at.tzinfo is UTC


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE id = 1",
        "REPLACE INTO audit (id, at, action, subject, details)"
        " VALUES (1, '2026-01-01', 'x', 'x', '{}')",
        "TRUNCATE audit",
    ],
)
def test_audit_cannot_be_changed(
    engine: Engine, database_kind: str, statement: str
) -> None:
    if statement.startswith("TRUNCATE" if database_kind == "sqlite" else "REPLACE"):
        return  # the other database's words
    with transaction(engine) as session:
        audit.append(session, actor="ann", action="login", subject="user:ann")
    with reading(engine) as session:
        before = audit.entries(session)
    with pytest.raises(MetiaError, match="conflict"), transaction(engine) as session:
        session.execute(text(statement))
    with reading(engine) as session:
        assert audit.entries(session) == before


# -- failures ------------------------------------------------------------------


def test_errors_name_the_rule_but_no_value(engine: Engine) -> None:
    secret = "Canary^Name"
    with transaction(engine) as session:
        add_user(session, "ann")
    with pytest.raises(MetiaError) as caught, transaction(engine) as session:
        session.add(
            UserRow(
                name=secret,
                display_name=secret,
                role="root",
                active=True,
                created_at=datetime.now(UTC),
            )
        )
    assert caught.value.code == "conflict"
    assert "ck_app_user_role" in caught.value.detail
    assert secret not in caught.value.detail
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_times_without_zone_are_refused(engine: Engine) -> None:
    with pytest.raises(MetiaError), transaction(engine) as session:
        session.add(
            UserRow(
                name="ann",
                display_name="A",
                role="viewer",
                active=True,
                created_at=datetime(2026, 1, 1),
            )
        )

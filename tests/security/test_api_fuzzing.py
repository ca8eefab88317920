"""The API under generated requests: no 500, and answers as the description says.

Schemathesis makes valid and invalid requests from the OpenAPI description and compares
every answer with it. Twice: with identifiers out of the air, and with ones that exist.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from pydicom.uid import generate_uid

from db.engine import transaction
from db.patients import key_of_study
from db.studies import Patient, Series, Study, upsert_study
from segmentation.followup.linking import recompute_links
from tests.security.application import Application, make_empty_database

DESCRIPTION = Path(__file__).parents[2] / "ohif-extension" / "openapi.json"
SETTINGS = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _load():
    """Give Schemathesis the committed description (which another test holds to be the
    one that is served), without its security: credentials are ours to send.
    """
    description = json.loads(DESCRIPTION.read_text("utf-8"))
    del description["security"]
    del description["components"]["securitySchemes"]
    return schemathesis.openapi.from_dict(description)


schema = _load()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Application:
    """Give an application with a study, a job and a result in it."""
    folder = tmp_path_factory.mktemp("fuzzed")
    return Application(folder, make_empty_database(folder), job_queue_limit=20)


@pytest.fixture(scope="module", autouse=True)
def known(target: Application) -> dict[str, str]:
    """Give the path parameters that lead to something; made before all else."""
    study, series = target.put_study()
    result = target.record(study, series)
    browser = target.browser("admin")
    found = browser.get(f"/api/v1/results/{result}").json
    job = browser.post("/api/v1/jobs", json={"study_uid": study}).json
    token = browser.post("/api/v1/tokens", json={"name": "x"}).json
    target.make_user("viewer", "somebody")
    address = f"/api/v1/studies/{study}/course"
    patient = browser.get(address).json["patient"]["id"]
    event = {"date": "2020-01-02", "kind": "surgery"}
    browser.post(f"/api/v1/patients/{patient}/events", json=event)
    with transaction(target.engine) as session:
        recompute_links(session, patient)
    course = browser.get(address).json
    return {
        "patient_id": patient,
        "event_id": course["events"][0]["id"],
        "track_id": course["tracks"][0]["id"],
        "study_uid": study,
        "result_id": result,
        "lesion_id": found["lesions"][0]["id"],
        "job_id": job["id"],
        "token_id": token["id"],
        "name": "somebody",
    }


def _call(case, target: Application, *excluded: str) -> None:
    browser = target.browser("admin")  # anew, as the last case may have logged it out
    cookie = browser.get_cookie("metia_session")
    assert cookie
    response = case.call_and_validate(
        app=target.app,
        headers={"X-CSRF-Token": browser.csrf or ""},
        cookies={"metia_session": cookie.value},
        excluded_checks=[schemathesis.checks.CHECKS.get_one(name) for name in excluded],
    )
    # The requests must get past the guard, or they would test nothing else.
    if case.path not in ("/api/v1/session", "/api/v1/auth/check"):
        assert response.status_code not in (401, 403)


def _patient_to_erase(target: Application) -> str:
    """Add a patient whom the other requests do not need; gives the key."""
    study_uid = generate_uid()
    with transaction(target.engine) as session:
        upsert_study(
            session, Patient("nobody"), Study(study_uid), Series(generate_uid())
        )
        return key_of_study(session, study_uid)


@schema.parametrize()
@SETTINGS
def test_api_keeps_to_its_description(case, target: Application) -> None:
    # A cursor that no list gave out, a password of few characters, a model nobody
    # installed and bytes that are no checkpoint are refused for reasons that a schema
    # cannot tell.
    body = case.body if isinstance(case.body, dict) else {}
    unsayable = "cursor" in (case.query or {}) or {"password", "model"} & set(body)
    unsayable = unsayable or (case.method, case.path) == ("POST", "/api/v1/models")
    _call(case, target, *(["positive_data_acceptance"] if unsayable else []))


@schema.parametrize()
@SETTINGS
def test_api_keeps_to_its_description_for_what_exists(
    case, target: Application, known: dict[str, str]
) -> None:
    for name in case.path_parameters:
        case.path_parameters[name] = known[name]
    if (case.method, case.path) == ("DELETE", "/api/v1/patients/{patient_id}"):
        case.path_parameters["patient_id"] = _patient_to_erase(target)
    if isinstance(case.body, dict) and "study_uid" in case.body:
        case.body["study_uid"] = known["study_uid"]
    # Whether a request is still valid after this exchange, Schemathesis cannot know;
    # that valid ones are taken and invalid ones refused is for the test above.
    _call(case, target, "negative_data_rejection", "positive_data_acceptance")

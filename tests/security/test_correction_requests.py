"""Corrections as no viewer would send them: bounded, refused in words, nothing kept."""

from __future__ import annotations

import gzip
import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from segmentation.versions import turn as turns
from segmentation.versions.routes import LARGEST_BODY
from segmentation.versions.turn import turn
from tests.reader_edits import Desk, make_desk
from tests.security.application import Application

BLANK = gzip.compress(bytes(24 * 64 * 72))


@pytest.fixture
def desk(application: Application) -> Desk:
    return make_desk(application)


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Desk:
    """Give a desk for requests that change nothing, which each test makes sure of."""
    folder = tmp_path_factory.mktemp("refusing")
    return make_desk(Application(folder, empty_database))


def code(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.json["code"]


def nothing_kept(desk: Desk) -> bool:
    address = f"/api/v1/results/{desk.result['id']}/versions"
    versions = desk.browser().get(address).json["versions"]
    return len(versions) == 1 and desk.segs() == 1


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no-revision": lambda asked: asked.pop("revision"),
    "revision-text": lambda asked: asked.update(revision="1"),
    "revision-true": lambda asked: asked.update(revision=True),
    "revision-zero": lambda asked: asked.update(revision=0),
    "revision-huge": lambda asked: asked.update(revision=2**63),
    "no-images": lambda asked: asked.update(images=[]),
    "too-many-images": lambda asked: asked.update(images=asked["images"] * 200),
    "image-no-uid": lambda asked: asked["images"][0].update(sop_instance_uid="1/../2"),
    "image-null": lambda asked: asked.update(images=[None]),
    "frame-zero": lambda asked: asked["images"][0].update(frame_number=0),
    "rows-zero": lambda asked: asked.update(rows=0),
    "rows-huge": lambda asked: asked.update(rows=10**9),
    "rows-negative": lambda asked: asked.update(rows=-1),
    "unknown-member": lambda asked: asked.update(force=True),
    "unknown-in-segment": lambda asked: asked["segments"][0].update(colour=1),
    "number-zero": lambda asked: asked["segments"][0].update(number=0),
    "number-huge": lambda asked: asked["segments"][0].update(number=65_536),
    "number-twice": lambda asked: asked["segments"][1].update(number=1),
    "lesion-twice": lambda asked: asked["segments"][1].update(
        lesion_id=asked["segments"][0]["lesion_id"]
    ),
    "lesion-no-id": lambda asked: asked["segments"][0].update(lesion_id="x"),
    "lesion-unknown": lambda asked: asked["segments"][0].update(lesion_id="0" * 32),
    "name-empty": lambda asked: asked["segments"][0].update(name=""),
    "name-long": lambda asked: asked["segments"][0].update(name="x" * 65),
    "name-lines": lambda asked: asked["segments"][0].update(name="a\nb"),
    "name-blank": lambda asked: asked["segments"][0].update(name="  "),
    "name-null": lambda asked: asked["segments"][0].update(name=None),
    "keep-both-text": lambda asked: asked.update(keep_both="yes"),
    "note-long": lambda asked: asked.update(note="x" * 1001),
    "transposed": lambda asked: asked.update(rows=72, columns=64),
    "fewer-images": lambda asked: asked.update(images=asked["images"][:-1]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_description_that_is_not_right_is_refused(refusing: Desk, name: str) -> None:
    asked = refusing.describe(refusing.kept())
    CHANGES[name](asked)
    answer = refusing.send(asked, gzip.compress(refusing.labels.astype("u1").tobytes()))
    assert code(answer) == (422, "invalid-input")
    assert nothing_kept(refusing)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', "{}", '{"revision": NaN}', "[" * 20_000]
)
def test_a_description_that_is_no_object_is_refused(refusing: Desk, text: str) -> None:
    answer = refusing.send(text, BLANK)
    assert answer.status_code in (400, 422)
    assert nothing_kept(refusing)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"PK\x03\x04",
        bytes(24 * 64 * 72),
        gzip.compress(bytes(300_000_000), 9),
        gzip.compress(b"\xff" * (24 * 64 * 72)),
        BLANK[:-4],
        BLANK * 2,
    ],
    ids=["empty", "zip", "plain", "bomb", "unexplained", "cut", "twice"],
)
def test_labels_that_are_not_right_are_refused(refusing: Desk, packed: bytes) -> None:
    answer = refusing.send(refusing.describe(refusing.kept()), packed)
    assert code(answer) == (422, "invalid-input")
    assert nothing_kept(refusing)


def post(desk: Desk, **options: Any) -> TestResponse:
    address = f"/api/v1/results/{desk.result['id']}/corrections"
    return desk.browser().post(address, **options)


def part(content: bytes) -> tuple[io.BytesIO, str]:
    return io.BytesIO(content), "blob"


def test_a_form_has_exactly_two_parts(refusing: Desk) -> None:
    text = json.dumps(refusing.describe(refusing.kept())).encode()
    for form in (
        {},
        {"description": part(text)},
        {"labels": part(BLANK)},
        {"description": text.decode(), "labels": ""},
        {"description": part(text), "labels": part(BLANK), "more": "1"},
        {"description": [part(text), part(text)], "labels": part(BLANK)},
    ):
        answer = post(refusing, data=form, content_type="multipart/form-data")
        assert answer.status_code in (400, 413, 422), form.keys()
    for options, wanted in (
        ({"json": {}}, (415, "unsupported-media-type")),
        ({"data": b"x", "content_type": "text/plain"}, (415, "unsupported-media-type")),
        ({"data": b"x", "content_type": "multipart/form-data"}, (400, "bad-request")),
        (
            {
                "data": b"--x\r\nnonsense",
                "content_type": "multipart/form-data; boundary=x",
            },
            (400, "bad-request"),
        ),
    ):
        assert code(post(refusing, **options)) == wanted
    assert nothing_kept(refusing)


def test_a_description_may_also_be_a_plain_field(desk: Desk) -> None:
    asked = desk.describe([{"number": 1, "lesion_id": None, "name": "New"}])
    labels = gzip.compress((desk.labels == 1).astype("u1").tobytes())
    form = {"description": json.dumps(asked), "labels": part(labels)}
    assert post(desk, data=form).status_code == 201


def test_a_body_beyond_the_limit_is_not_read(refusing: Desk) -> None:
    answer = refusing.send(refusing.describe(refusing.kept()), bytes(LARGEST_BODY))
    assert code(answer) == (413, "too-large")
    answer = refusing.send("{" + " " * 2_000_000, BLANK)
    assert code(answer) == (413, "too-large")
    # Elsewhere the smaller limit of the whole application stays.
    big = {"revision": 1, "note": "x" * 1_100_000}
    address = f"/api/v1/results/{refusing.result['id']}"
    assert code(refusing.browser().patch(address, json=big)) == (413, "too-large")


def test_refusals_hold_nothing_of_what_was_sent(desk: Desk, log: io.StringIO) -> None:
    name = "Zzsecret Patient Name"
    asked = desk.describe([{"number": 9, "lesion_id": None, "name": name}], note=name)
    answer = desk.send(asked, BLANK)
    assert answer.status_code == 422
    assert desk.send({**asked, "segments": name}, BLANK).status_code == 422
    labels = gzip.compress((desk.labels == 1).astype("u1").tobytes())
    saved = desk.describe([{"number": 1, "lesion_id": None, "name": name}])
    assert desk.send(saved, labels).status_code == 201
    written = log.getvalue()
    assert "corrections" in written
    for secret in (name, "Phantom^Synthetic", str(desk.images[0].SOPInstanceUID)):
        assert secret not in written
        assert secret not in answer.text


def test_one_correction_at_a_time(
    refusing: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_LONGEST_WAIT_S", 0.1)
    asked = refusing.describe(refusing.kept())
    with turn():
        answer = refusing.send(asked, BLANK)
    assert code(answer) == (503, "not-ready")
    assert answer.headers["Retry-After"]
    answer = refusing.send(asked, BLANK)
    assert code(answer) == (422, "invalid-input")


def test_the_turn_comes_round() -> None:
    order: list[int] = []

    def work(number: int) -> None:
        with turn():
            order.append(number)
            time.sleep(0.01)
            order.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[::2] == order[1::2]
    assert len(order) == 10


def test_two_at_once_make_one_version(desk: Desk) -> None:
    """Both saw the same state; the database lets one of them through."""
    labels = desk.labels.copy()
    labels[3:6, 4:9, 5:11] = 3
    segments = [*desk.kept(), {"number": 3, "lesion_id": None, "name": "New"}]
    other = labels.copy()
    other[3, 4, 5] = 0
    answers: list[TestResponse] = []
    for role in ("annotator", "reviewer"):
        desk.browser(role)  # users are made before the race

    def save(mine: Any, role: str) -> None:
        answers.append(desk.save(mine, segments, role=role))

    threads = [
        threading.Thread(target=save, args=(labels, "annotator")),
        threading.Thread(target=save, args=(other, "reviewer")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    address = f"/api/v1/results/{desk.result['id']}/versions"
    assert len(desk.browser().get(address).json["versions"]) == 2

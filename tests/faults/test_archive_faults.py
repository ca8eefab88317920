"""The archive fails in every way there is: what comes out, how soon, and who waits.

F1 refused and denied, F2 slow and silent, F3 dies in the middle, F4 still arriving, F24
the answer to a store is lost. A scripted proxy stands before a real Orthanc.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from errors import MetiaError
from orthanc.connection import Limits
from orthanc.dicomweb import encode_multipart, encode_part10
from orthanc.gateway import OrthancArchive
from tests.orthanc_server import (
    OrthancServer,
    free_port,
    reason_to_skip,
    running_orthanc,
)
from tests.scripted_archive import (
    Answer,
    Behave,
    Cut,
    Delay,
    Drip,
    Fault,
    LoseAnswer,
    ScriptedArchive,
    Stall,
)
from tests.small_series import make_image, make_series

FAST = {"connect_timeout_s": 0.5, "read_timeout_s": 0.5, "retries": 2}
WADO = "/dicom-web/"
FILES = "/file"
OK = "ok"


@pytest.fixture(scope="module")
def series(orthanc: OrthancServer) -> list[Dataset]:
    images = make_series(20, side=64)
    orthanc.upload(images)
    return images


def fetch(archive: OrthancArchive, series: list[Dataset]) -> list[Dataset]:
    return archive.fetch_series(series[0].StudyInstanceUID, series[0].SeriesInstanceUID)


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except MetiaError as error:
        return error.code
    return OK


@dataclass(frozen=True)
class Row:
    """One way to fail, and what must come of it."""

    name: str
    script: list[Fault]
    expected: str
    within_s: float
    path: str = ""
    requests: range = range(1, 1000)
    """How many requests may take from the script."""


ROWS = [
    # F1: not there, or not for us. Denials are never tried again.
    Row("401", [Answer(401)], "archive-denied", 1, requests=range(1, 2)),
    Row("403", [Answer(403)], "archive-denied", 1, requests=range(1, 2)),
    Row("500 for ever", [Answer(500)], "archive-unavailable", 3, requests=range(3, 4)),
    Row("503 once", [Answer(503), Behave()], OK, 3),
    Row("503, 500, then well", [Answer(503), Answer(500), Behave()], OK, 3),
    Row("503, then 401", [Answer(503), Answer(401)], "archive-denied", 3),
    Row("429 once", [Answer(429), Behave()], OK, 3),
    Row("hangs up at once", [Cut(0)], "archive-unavailable", 3, requests=range(3, 4)),
    Row("resets at once", [Cut(0, rudely=True), Behave()], OK, 3),
    Row("400", [Answer(400)], "archive-unexpected", 1, requests=range(1, 2)),
    Row(
        "redirect",
        [Answer(302, location="http://127.0.0.1:9/")],
        "archive-unexpected",
        1,
        requests=range(1, 2),
    ),
    Row("a web page", [Answer(200, b"<html>")], "archive-unexpected", 1),
    Row("broken JSON", [Answer(200, b'[{"ID":')], "archive-unexpected", 1),
    Row("deep JSON", [Answer(200, b"[" * 100_000)], "archive-unexpected", 2),
    Row("JSON of another shape", [Answer(200, b'{"a": 1}')], "archive-unexpected", 1),
    Row("list of another shape", [Answer(200, b'["a"]')], "archive-unexpected", 1),
    # F2: slow and silent.
    Row("silent", [Stall()], "archive-unavailable", 4, requests=range(3, 4)),
    Row("silent once", [Stall(), Behave()], OK, 3),
    Row("slow, but in time", [Delay(0.2)], OK, 5),
    Row("too slow", [Delay(2)], "archive-unavailable", 4),
    Row("images drip", [Drip(0.002)], OK, 5, path=WADO),
    # F3: dies in the middle. Only what is missing is asked for again.
    *(
        Row(f"cut at {n}", [Cut(n), Behave()], OK, 3, path=WADO, requests=range(2, 3))
        for n in (1, 50)
    ),
    *(
        Row(f"cut at {n}", [Cut(n), Behave()], OK, 3, path=WADO, requests=range(1, 2))
        for n in (300, 5_000, 16_000, 100_000, 170_000)
    ),
    Row("reset in the middle", [Cut(100_000, rudely=True)], OK, 3, path=WADO),
    Row("silent in the middle", [Stall(100_000)], OK, 3, path=WADO),
    Row("file cut once", [Cut(4_000), Behave()], OK, 3, path=FILES),
    Row("404 for images", [Answer(404)], OK, 3, path=WADO),
    Row(
        "not multipart",
        [Answer(200, b"x", "application/dicom")],
        OK,
        3,
        path=WADO,
    ),
    Row(
        "empty multipart",
        [Answer(200, b"--b--", "multipart/related; boundary=b")],
        OK,
        3,
        path=WADO,
    ),
    Row(
        "parts that are not images",
        [Answer(200, b"--b\r\n\r\nx\r\n--b--", "multipart/related; boundary=b")],
        OK,
        3,
        path=WADO,
    ),
    Row("images answered 401", [Answer(401)], "archive-denied", 1, path=WADO),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_pull_from_a_failing_archive(
    row: Row, orthanc: OrthancServer, series: list[Dataset]
) -> None:
    with ScriptedArchive(orthanc.url, row.script, row.path) as scripted:
        archive = orthanc.archive(url=scripted.url, limits=Limits(answer_s=2.0), **FAST)
        fetched: list[Dataset] = []
        begun = time.monotonic()
        result = outcome(lambda: fetched.extend(fetch(archive, series)))
        elapsed_s = time.monotonic() - begun
    assert result == row.expected
    assert elapsed_s < row.within_s
    assert len(scripted.requests) in row.requests or row.requests.stop == 1000
    if row.expected == OK:
        assert fetched == series


MID_FILE = [
    # Both ways of asking fail.
    ("cut", Cut(4_000), "archive-incomplete"),
    ("gone", Answer(404), "archive-incomplete"),
    ("gone from the disk", Answer(500), "archive-incomplete"),
    ("another file", Answer(200, b"x" * 100), "archive-incomplete"),
    ("denied", Answer(401), "archive-denied"),
    ("silent", Stall(), "archive-unavailable"),
]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [row[1:] for row in MID_FILE],
    ids=[row[0] for row in MID_FILE],
)
def test_image_that_stays_missing_is_never_left_out(
    fault: Fault, expected: str, orthanc: OrthancServer, series: list[Dataset]
) -> None:
    with (
        ScriptedArchive(orthanc.url, [Cut(100_000)], WADO) as cutting,
        ScriptedArchive(cutting.url, [fault], FILES) as scripted,
    ):
        archive = orthanc.archive(url=scripted.url, **FAST)
        begun = time.monotonic()
        assert outcome(lambda: fetch(archive, series)) == expected
        assert time.monotonic() - begun < 8


def test_only_what_is_missing_is_asked_for_again(
    orthanc: OrthancServer, series: list[Dataset]
) -> None:
    with (
        ScriptedArchive(orthanc.url, [Cut(100_000)], WADO) as cutting,
        ScriptedArchive(cutting.url, [Behave()], FILES) as files,
    ):
        assert fetch(orthanc.archive(url=files.url, **FAST), series) == series
    # 100 000 bytes hold about half of the 20 images of nearly 9 kB.
    assert 8 <= len(files.requests) <= 12
    assert len(set(files.requests)) == len(files.requests)
    assert len(cutting.requests) == 1


def test_parts_that_are_not_what_is_listed_are_not_taken(
    orthanc: OrthancServer, series: list[Dataset]
) -> None:
    """A foreign image, and one of ours that is shorter than the archive lists it."""
    shorter = copy.deepcopy(series[3])
    shorter.Rows = 1
    shorter.PixelData = shorter.PixelData[: 2 * shorter.Columns]
    parts = [encode_part10(image) for image in (make_series(1)[0], shorter)]
    answer = Answer(200, encode_multipart(parts, b"b"), "multipart/related; boundary=b")
    with ScriptedArchive(orthanc.url, [answer], WADO) as scripted:
        assert fetch(orthanc.archive(url=scripted.url, **FAST), series) == series


@pytest.mark.parametrize("method", ["ping", "headers", "stable", "store", "instance"])
def test_every_method_translates_a_refused_connection(method: str) -> None:
    archive = OrthancArchive(f"http://127.0.0.1:{free_port()}", "u", "p", retries=1)
    image = make_image(generate_uid(), generate_uid(), 1)
    study, instance = image.StudyInstanceUID, image.SOPInstanceUID
    calls: dict[str, Callable[[], object]] = {
        "ping": archive.ping,
        "headers": lambda: archive.series_headers(study),
        "stable": lambda: archive.wait_until_stable(study, 60, lambda: False),
        "store": lambda: archive.store([image]),
        "instance": lambda: archive.fetch_instance(
            study, image.SeriesInstanceUID, instance
        ),
    }
    begun = time.monotonic()
    assert outcome(calls[method]) == "archive-unavailable"
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://no-such-host.invalid:8042", "archive-unavailable"),
        ("http://127.0.0.1:notaport", "configuration-invalid"),
        ("ftp://127.0.0.1", "configuration-invalid"),
        ("", "configuration-invalid"),
    ],
)
def test_useless_address_is_told(url: str, expected: str) -> None:
    assert outcome(OrthancArchive(url, "u", "p", retries=0).ping) == expected


def test_wrong_password_is_denied_at_once(orthanc: OrthancServer) -> None:
    begun = time.monotonic()
    archive = OrthancArchive(orthanc.url, "metia", "not the password")
    assert outcome(archive.ping) == "archive-denied"
    assert outcome(OrthancArchive(orthanc.url, "", "").ping) == "archive-denied"
    assert time.monotonic() - begun < 1


def test_black_hole_holds_up_nobody_else(
    orthanc: OrthancServer, series: list[Dataset]
) -> None:
    """Forty threads wait for silent answers; the forty-first is served at once."""
    script: list[Fault] = [Stall()]
    with ScriptedArchive(orthanc.url, script, WADO) as scripted:
        archive = orthanc.archive(
            url=scripted.url, connect_timeout_s=1.0, read_timeout_s=3.0, retries=0
        )
        codes: list[str] = []
        waiting = [
            threading.Thread(
                target=lambda: codes.append(outcome(lambda: fetch(archive, series)))
            )
            for _ in range(40)
        ]
        for thread in waiting:
            thread.start()
        while len(scripted.requests) < len(waiting) and not codes:
            time.sleep(0.01)
        begun = time.monotonic()
        archive.ping()
        archive.series_headers(series[0].StudyInstanceUID)
        assert time.monotonic() - begun < 1.0
        for thread in waiting:
            thread.join(timeout=10)
    assert codes == ["archive-unavailable"] * 40
    assert len(scripted.requests) == 40


# -- F4: still arriving --------------------------------------------------------------


def test_image_arriving_during_the_pull_is_noticed(orthanc: OrthancServer) -> None:
    images = make_series(6)
    orthanc.upload(images[:5])
    archive = orthanc.archive(**FAST)
    late = iter(images[5:])

    def report(_fraction: float) -> None:
        for image in late:
            orthanc.upload([image])

    study, series = images[0].StudyInstanceUID, images[0].SeriesInstanceUID
    code = outcome(lambda: archive.fetch_series(study, series, report))
    assert code == "series-not-stable"
    assert len(archive.fetch_series(study, series)) == 6


# -- F24 and the other ends of a store ------------------------------------------------


def test_store_survives_a_lost_answer(orthanc: OrthancServer) -> None:
    (image,) = make_series(1)
    script: list[Fault] = [LoseAnswer(), Behave()]
    with ScriptedArchive(orthanc.url, script, "/dicom-web/studies") as scripted:
        (receipt,) = orthanc.archive(url=scripted.url, **FAST).store([image])
    assert not receipt.already_stored
    (again,) = orthanc.archive().store([image])
    assert again.already_stored
    assert fetch(orthanc.archive(), [image]) == [image]


def test_store_whose_answers_stay_lost_can_be_run_again(
    orthanc: OrthancServer,
) -> None:
    (image,) = make_series(1)
    with ScriptedArchive(orthanc.url, [LoseAnswer()], "POST /dicom-web") as scripted:
        archive = orthanc.archive(url=scripted.url, **FAST)
        assert outcome(lambda: archive.store([image])) == "archive-unavailable"
    (receipt,) = orthanc.archive().store([image])
    assert receipt.already_stored


STORE_ROWS = [
    # What the archive answers to STOW-RS, to REST, and what must come of it.
    ("rejects", Answer(409), Answer(400), "archive-rejected"),
    ("too large for it", Answer(413), Answer(413), "archive-rejected"),
    ("says yes, stores nothing", Answer(200, b"{}"), Answer(400), "archive-rejected"),
    ("says nothing useful", Answer(200, b"<html>"), Answer(500), "archive-unavailable"),
    ("507", Answer(507), Answer(507), "disk-full"),
    (
        "cannot write",
        Answer(200, b"{}"),
        Answer(500, b'{"OrthancStatus": 14}', "application/json"),
        "disk-full",
    ),
    ("lies twice", Answer(200, b"{}"), Answer(200, b"{}"), "archive-rejected"),
    ("only STOW-RS fails", Answer(500), Behave(), OK),
    ("denied", Answer(403), Behave(), "archive-denied"),
]


@pytest.mark.parametrize(
    ("stow", "rest", "expected"),
    [row[1:] for row in STORE_ROWS],
    ids=[row[0] for row in STORE_ROWS],
)
def test_store_that_fails(
    stow: Fault, rest: Fault, expected: str, orthanc: OrthancServer
) -> None:
    (image,) = make_series(1)
    with (
        ScriptedArchive(orthanc.url, [stow], "POST /dicom-web") as first,
        ScriptedArchive(first.url, [rest], "POST /instances") as second,
    ):
        archive = orthanc.archive(url=second.url, **FAST)
        assert outcome(lambda: archive.store([image])) == expected


def test_store_read_back_changed_is_a_mismatch(orthanc: OrthancServer) -> None:
    image, twin = make_series(2)
    (receipt,) = orthanc.archive().store([image])
    assert not receipt.already_stored
    archive = orthanc.archive(**FAST)
    # The object is found, has the length it should have, and other bytes.
    archive._read_file = lambda item: bytes(item.size_bytes)
    assert outcome(lambda: archive.store([twin])) == "archive-mismatch"


@pytest.mark.skipif(bool(reason_to_skip()), reason=str(reason_to_skip()))
def test_full_disk_is_called_so(tmp_path: Path) -> None:
    """A limit on the size of the archive's files stands for a full disk."""
    small, large = make_series(1), make_series(1, side=1024)
    limit = 1_500_000
    with running_orthanc(
        tmp_path,
        prefix=["sh", "-c", f'trap "" XFSZ; exec prlimit --fsize={limit} "$@"', "sh"],
    ) as server:
        archive = server.archive(**FAST)
        archive.store(small)
        assert outcome(lambda: archive.store(large)) == "disk-full"
        # It goes on serving, and nothing half-written is listed.
        assert fetch(archive, small) == small
        assert outcome(lambda: fetch(archive, large)) == "study-not-found"


@pytest.mark.skipif(bool(reason_to_skip()), reason=str(reason_to_skip()))
def test_image_lost_from_the_storage_is_noticed(tmp_path: Path) -> None:
    images = make_series(5)
    with running_orthanc(
        tmp_path,
        change=lambda text: text.replace("{", '{"MaximumStorageCacheSize": 0,', 1),
    ) as server:
        server.upload(images)
        assert server.storage
        (lost,) = (
            path
            for path in server.storage.glob("??/??/*")
            if images[2].SOPInstanceUID.encode() in path.read_bytes()
        )
        lost.unlink()
        archive = server.archive(**FAST)
        assert outcome(lambda: fetch(archive, images)) == "archive-incomplete"


# -- limits, and what gets out -------------------------------------------------------


def test_absurd_series_is_refused_before_it_is_pulled(
    orthanc: OrthancServer, series: list[Dataset]
) -> None:
    with ScriptedArchive(orthanc.url, [Behave()], WADO) as scripted:
        for limits in (Limits(instances=19), Limits(answer_bytes=100_000)):
            archive = orthanc.archive(url=scripted.url, limits=limits, **FAST)
            with pytest.raises(MetiaError) as caught:
                fetch(archive, series)
            assert caught.value.code == "volume-too-large"
            assert caught.value.facts["instance_count"] == 20
        size_bytes = sum(len(encode_part10(image)) for image in series)
        exact = Limits(instances=20, answer_bytes=size_bytes)
        fetch(orthanc.archive(url=scripted.url, limits=exact, **FAST), series)
    assert len(scripted.requests) == 1


def test_endless_answer_is_cut_off(orthanc: OrthancServer) -> None:
    long = b'["dicom-web"' + b" " * 5_000_000 + b"]"
    with ScriptedArchive(orthanc.url, [Answer(200, long)]) as scripted:
        orthanc.archive(url=scripted.url).ping()
        archive = orthanc.archive(
            url=scripted.url, limits=Limits(answer_bytes=1_000_000, instances=10)
        )
        assert outcome(archive.ping) == "archive-unexpected"


def test_no_uid_gets_out(
    orthanc: OrthancServer, series: list[Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    uids = [series[0].StudyInstanceUID, series[0].SeriesInstanceUID]
    for fault in (Answer(401), Answer(500), Cut(0), Stall(), Cut(100_000)):
        with ScriptedArchive(orthanc.url, [fault], "e") as scripted:
            archive = orthanc.archive(
                url=scripted.url, connect_timeout_s=0.2, read_timeout_s=0.2, retries=1
            )
            try:
                fetch(archive, series)
            except MetiaError as error:
                told = f"{error} {error.facts}"
                assert not any(uid in told for uid in uids)
    assert not any(uid in caplog.text for uid in uids)

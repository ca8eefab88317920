"""What every ``Archive`` promises, held against the fake and against a real Orthanc.

The promises, in words:

- a series comes complete, in order of instance number, bit by bit what was put in;
- headers come one a series, from its middle, without pixel data, texts intact;
- what is not there is said by a code (study, series, image), and a malformed UID is
  never there;
- a study under two patients is refused, not mixed;
- storing is idempotent and never replaces; stored files have an empty preamble;
- what MetIA wrote can be deleted, and nothing else;
- one archive can be used by many threads.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from errors import MetiaError
from orthanc.archive import Archive
from tests.fake_archive import FakeArchive
from tests.orthanc_server import STABLE_AGE_S
from tests.small_series import make_image, make_series

BAD_UIDS = [
    "",
    ".",
    "1.",
    ".1",
    "1..2",
    "../../etc/passwd",
    "1.2'; drop table",
    "1.2\n",
    "1.2\0",
    " 1.2",
    "*",
    "1.2.*",
    "1.?",
    "1\\2",
    "1.2/series",
    "1.2?x=1",
    "1.%32",
    "١.٢",  # Arabic digits
    "１.２",  # full-width digits
    "1" * 65,
    "a1.2",
]


@dataclass(frozen=True)
class Subject:
    """An archive under test, and a way to put images in behind its back."""

    archive: Archive
    put: Callable[[Sequence[Dataset]], None]
    fake: FakeArchive | None = None


@pytest.fixture(params=["fake", "orthanc"])
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == "fake":
        fake = FakeArchive()
        return Subject(fake, fake.put, fake)
    server = request.getfixturevalue("orthanc")
    return Subject(server.archive(retries=1), server.upload)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(MetiaError) as caught:
        call()
    return caught.value.code


def same(left: Dataset, right: Dataset) -> bool:
    # Compared as elements, so that what pydicom has read lazily is read.
    return left == right and left.file_meta.TransferSyntaxUID == (
        right.file_meta.TransferSyntaxUID
    )


# -- the archive ---------------------------------------------------------------------


def test_answers_ping(subject: Subject) -> None:
    subject.archive.ping()


@pytest.mark.parametrize("uid", BAD_UIDS)
def test_malformed_uid_is_nowhere(subject: Subject, uid: str) -> None:
    archive = subject.archive
    images = make_series(1)
    subject.put(images)
    study_uid, series_uid = images[0].StudyInstanceUID, images[0].SeriesInstanceUID
    assert code_of(lambda: archive.series_headers(uid)) == "study-not-found"
    assert code_of(lambda: archive.fetch_series(uid, series_uid)) == "study-not-found"
    assert code_of(lambda: archive.fetch_series(study_uid, uid)) == "series-not-found"
    assert (
        code_of(lambda: archive.fetch_instance(study_uid, series_uid, uid))
        == "not-found"
    )
    assert (
        code_of(lambda: archive.wait_until_stable(uid, 0, lambda: False))
        == "study-not-found"
    )


# -- patients ------------------------------------------------------------------------


def test_studies_of_a_patient_are_listed_newest_first(subject: Subject) -> None:
    patient = f"P{generate_uid()[-12:]}"
    days = ("20210301", "20240229", "20190512")
    for day in days:
        for _ in range(2):  # Another study of the same day.
            subject.put(make_series(2, PatientID=patient, StudyDate=day))
    subject.put(make_series(1, PatientID=patient.lower(), StudyDate="20250101"))
    subject.put(make_series(1, PatientID=patient + "0", StudyDate="20250101"))
    uids = subject.archive.studies_of_patient(patient)
    assert len(set(uids)) == len(uids) == 6
    found = [
        str(subject.archive.series_headers(uid)[0].sample.StudyDate) for uid in uids
    ]
    assert found == sorted(found, reverse=True)
    assert set(found) == set(days)


def test_study_of_several_series_is_listed_once(subject: Subject) -> None:
    patient, study_uid = f"P{generate_uid()[-12:]}", generate_uid()
    for number in (1, 2):
        subject.put(
            make_series(2, study_uid=study_uid, PatientID=patient, SeriesNumber=number)
        )
    assert subject.archive.studies_of_patient(patient) == [study_uid]


@pytest.mark.parametrize("patient", ["", " ", "*", "?", "TES*", "A\\TEST", "nobody"])
def test_patient_id_is_no_pattern(subject: Subject, patient: str) -> None:
    subject.put(make_series(1, PatientID="TEST"))
    assert subject.archive.studies_of_patient(patient) == []


def test_patient_id_that_holds_a_wildcard_finds_itself_only(subject: Subject) -> None:
    stem = f"P{generate_uid()[-12:]}"
    starred, other = (make_series(1, PatientID=stem + end) for end in ("*", "1"))
    subject.put([*starred, *other])
    found = subject.archive.studies_of_patient(f"{stem}*")
    assert found == [starred[0].StudyInstanceUID]


# -- headers -------------------------------------------------------------------------


def test_headers_come_from_the_middle_without_pixels(subject: Subject) -> None:
    study_uid = generate_uid()
    late = make_series(5, study_uid=study_uid, SeriesNumber=12)
    early = make_series(3, study_uid=study_uid, SeriesNumber=2)
    unnumbered = make_series(1, study_uid=study_uid, SeriesNumber=None)
    subject.put([*reversed(late), *early, *unnumbered])
    headers = subject.archive.series_headers(study_uid)
    assert [header.series_uid for header in headers] == [
        images[0].SeriesInstanceUID for images in (unnumbered, early, late)
    ]
    assert [header.instance_count for header in headers] == [1, 3, 5]
    assert [header.sample.InstanceNumber for header in headers] == [1, 2, 3]
    assert all("PixelData" not in header.sample for header in headers)


def test_headers_keep_texts_sequences_and_private_elements(subject: Subject) -> None:
    item = Dataset()
    item.CodeMeaning = "T1"
    (image,) = make_series(
        1,
        SpecificCharacterSet="ISO_IR 192",
        SeriesDescription="Kopf T1 gadoliniumverstärkt",
        ProcedureCodeSequence=[item],
    )
    image.private_block(0x0019, "METIA TEST", create=True).add_new(1, "LO", "kept")
    subject.put([image])
    (header,) = subject.archive.series_headers(image.StudyInstanceUID)
    del image.PixelData
    assert same(header.sample, image)


def test_unknown_study_has_no_headers(subject: Subject) -> None:
    uid = generate_uid()
    assert code_of(lambda: subject.archive.series_headers(uid)) == "study-not-found"


# -- pulling -------------------------------------------------------------------------


def test_series_comes_complete_in_order_and_unchanged(subject: Subject) -> None:
    images = make_series(30)
    other = make_series(2, study_uid=images[0].StudyInstanceUID)
    subject.put([*images[::-2], *other, *images[::2]])
    subject.put(images)
    fractions: list[float] = []
    fetched = subject.archive.fetch_series(
        images[0].StudyInstanceUID, images[0].SeriesInstanceUID, fractions.append
    )
    assert len(fetched) == 30
    assert all(same(*pair) for pair in zip(fetched, images, strict=True))
    assert fractions == sorted(fractions)
    assert fractions[0] > 0
    assert fractions[-1] == 1.0


def test_a_listing_changes_with_the_series(subject: Subject) -> None:
    images = make_series(4)
    uids = images[0].StudyInstanceUID, images[0].SeriesInstanceUID
    subject.put(images[:3])
    before = subject.archive.list_series(*uids)
    assert before == subject.archive.list_series(*uids)
    assert len(before.instances) == 3
    assert before.size_bytes > 3 * len(images[0].PixelData)
    subject.put(make_series(2, study_uid=uids[0]))
    assert subject.archive.list_series(*uids) == before, "another series came"
    subject.put(images[3:])
    after = subject.archive.list_series(*uids)
    assert set(before.instances) < set(after.instances)
    for wrong in ((uids[0], "1.2.3"), ("1.2.3", uids[1]), (uids[0], "*")):
        with pytest.raises(MetiaError, match="not-found"):
            subject.archive.list_series(*wrong)


def test_images_without_number_come_too(subject: Subject) -> None:
    images = make_series(4)
    for image in images[:2]:
        image.InstanceNumber = None
    subject.put(images)
    fetched = subject.archive.fetch_series(
        images[0].StudyInstanceUID, images[0].SeriesInstanceUID
    )
    expected = sorted(image.SOPInstanceUID for image in images[:2])
    assert [image.SOPInstanceUID for image in fetched] == [
        *expected,
        *(image.SOPInstanceUID for image in images[2:]),
    ]


def test_binary_that_looks_like_multipart_survives(subject: Subject) -> None:
    images = make_series(2)
    trap = b"\r\n--boundary\r\nContent-Length: 3\r\n\r\n\r\n\r\n--boundary--\r\n"
    images[0].PixelData = trap + images[0].PixelData[len(trap) :]
    subject.put(images)
    fetched = subject.archive.fetch_series(
        images[0].StudyInstanceUID, images[0].SeriesInstanceUID
    )
    assert fetched[0].PixelData == images[0].PixelData


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_series_comes_decodable(subject: Subject, syntax: str) -> None:
    images = make_series(3)
    pixels = [image.pixel_array for image in images]
    for image in images:
        image.compress(syntax, generate_instance_uid=False)
    subject.put(images)
    fetched = subject.archive.fetch_series(
        images[0].StudyInstanceUID, images[0].SeriesInstanceUID
    )
    for image, expected in zip(fetched, pixels, strict=True):
        np.testing.assert_array_equal(image.pixel_array, expected)


def test_what_is_not_there_is_told_apart(subject: Subject) -> None:
    archive = subject.archive
    images, others = make_series(1), make_series(1)
    subject.put([*images, *others])
    study, series, instance = (
        images[0].StudyInstanceUID,
        images[0].SeriesInstanceUID,
        images[0].SOPInstanceUID,
    )
    foreign = others[0].SeriesInstanceUID
    new = generate_uid()
    assert code_of(lambda: archive.fetch_series(new, series)) == "study-not-found"
    assert code_of(lambda: archive.fetch_series(study, new)) == "series-not-found"
    assert code_of(lambda: archive.fetch_series(study, foreign)) == "series-not-found"
    for uids, code in [
        ((new, series, instance), "study-not-found"),
        ((study, foreign, instance), "series-not-found"),
        ((study, series, new), "not-found"),
    ]:
        assert code_of(lambda uids=uids: archive.fetch_instance(*uids)) == code


def test_one_instance(subject: Subject) -> None:
    images = make_series(3)
    subject.put(images)
    image = images[1]
    fetched = subject.archive.fetch_instance(
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID
    )
    assert same(fetched, image)


def test_study_under_two_patients_is_refused(subject: Subject) -> None:
    first = make_series(2, PatientID="A")
    second = copy.deepcopy(first)
    for image in second:
        image.PatientID = "B"
    subject.put([*first, *second])
    study, series = first[0].StudyInstanceUID, first[0].SeriesInstanceUID
    for call in (
        lambda: subject.archive.series_headers(study),
        lambda: subject.archive.fetch_series(study, series),
        lambda: subject.archive.wait_until_stable(study, 0, lambda: False),
    ):
        assert code_of(call) == "archive-ambiguous"


def test_many_threads_share_one_archive(subject: Subject) -> None:
    series = [make_series(6) for _ in range(4)]
    for images in series:
        subject.put(images)

    def fetch(images: list[Dataset]) -> bool:
        fetched = subject.archive.fetch_series(
            images[0].StudyInstanceUID, images[0].SeriesInstanceUID
        )
        return all(same(*pair) for pair in zip(fetched, images, strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(fetch, series * 4))


# -- stability -----------------------------------------------------------------------


def test_waits_until_no_image_arrives(subject: Subject) -> None:
    images = make_series(2)
    study_uid = images[0].StudyInstanceUID
    subject.put(images)
    timer = threading.Timer(0.2, lambda: None)
    if subject.fake:
        subject.fake.unstable.add(study_uid)
        timer = threading.Timer(0.2, subject.fake.unstable.clear)
    wait = subject.archive.wait_until_stable
    assert code_of(lambda: wait(study_uid, 0, lambda: False)) == "series-not-stable"
    begun = time.monotonic()
    assert code_of(lambda: wait(study_uid, 60, lambda: True)) == "series-not-stable"
    assert time.monotonic() - begun < 0.5
    timer.start()
    wait(study_uid, STABLE_AGE_S + 20, lambda: False)


def test_unknown_study_is_not_waited_for(subject: Subject) -> None:
    uid = generate_uid()
    begun = time.monotonic()
    assert (
        code_of(lambda: subject.archive.wait_until_stable(uid, 60, lambda: False))
        == "study-not-found"
    )
    assert time.monotonic() - begun < 5


# -- storing -------------------------------------------------------------------------


def test_stored_objects_can_be_read_back(subject: Subject) -> None:
    objects = [
        *make_series(2),
        *make_series(1, SOPClassUID=SecondaryCaptureImageStorage),
    ]
    for item in objects:
        item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID
    receipts = subject.archive.store(objects)
    assert [receipt.already_stored for receipt in receipts] == [False] * 3
    for receipt, item in zip(receipts, objects, strict=True):
        assert receipt.sop_instance_uid == item.SOPInstanceUID
        fetched = subject.archive.fetch_instance(
            receipt.study_uid, receipt.series_uid, receipt.sop_instance_uid
        )
        assert same(fetched, item)


def test_storing_nothing_is_nothing(subject: Subject) -> None:
    assert subject.archive.store([]) == []


def test_storing_again_says_so_and_replaces_nothing(subject: Subject) -> None:
    first, second = make_series(2)
    assert [r.already_stored for r in subject.archive.store([first])] == [False]
    changed = make_image(
        first.StudyInstanceUID,
        first.SeriesInstanceUID,
        9,
        SOPInstanceUID=first.SOPInstanceUID,
    )
    changed.file_meta.MediaStorageSOPInstanceUID = first.SOPInstanceUID
    receipts = subject.archive.store([changed, second])
    assert [receipt.already_stored for receipt in receipts] == [True, False]
    fetched = subject.archive.fetch_series(
        first.StudyInstanceUID, first.SeriesInstanceUID
    )
    assert all(same(*pair) for pair in zip(fetched, [first, second], strict=True))


def test_stored_file_has_an_empty_preamble(subject: Subject) -> None:
    (image,) = make_series(1)
    image.preamble = b"MZ" + b"\x90" * 126
    (receipt,) = subject.archive.store([image])
    fetched = subject.archive.fetch_instance(
        receipt.study_uid, receipt.series_uid, receipt.sop_instance_uid
    )
    assert fetched.preamble == bytes(128)


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
)
def test_object_without_uid_is_rejected(subject: Subject, keyword: str) -> None:
    (image,) = make_series(1)
    delattr(image, keyword)
    assert code_of(lambda: subject.archive.store([image])) == "archive-rejected"


# -- deleting ------------------------------------------------------------------------


def make_own(images: Sequence[Dataset], **other: str) -> Dataset:
    """Make an object that says MetIA wrote it, in the study of `images`."""
    own = copy.deepcopy(images[0])
    own.SeriesInstanceUID = generate_uid()
    own.SOPInstanceUID = own.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    own.Manufacturer = own.ManufacturerModelName = "MetIA"
    own.Modality = "SEG"
    for keyword, value in other.items():
        setattr(own, keyword, value)
    return own


def test_own_series_is_deleted_and_nothing_else(subject: Subject) -> None:
    archive = subject.archive
    images = make_series(3)
    own, other = make_own(images), make_own(images, Modality="RTSTRUCT")
    subject.put([*images, own, other])
    study_uid = str(images[0].StudyInstanceUID)
    archive.delete_series(study_uid, str(own.SeriesInstanceUID))
    left = {header.series_uid for header in archive.series_headers(study_uid)}
    assert left == {str(images[0].SeriesInstanceUID), str(other.SeriesInstanceUID)}
    again = code_of(lambda: archive.delete_series(study_uid, own.SeriesInstanceUID))
    assert again == "series-not-found"


@pytest.mark.parametrize(
    "other",
    [
        {"ManufacturerModelName": "Scanner"},
        {"ManufacturerModelName": "MetIA2"},
        {"ManufacturerModelName": ""},
        {"Modality": "MR"},
    ],
)
def test_series_of_anyone_else_is_never_deleted(
    subject: Subject, other: dict[str, str]
) -> None:
    archive = subject.archive
    images = make_series(1)
    foreign = make_own(images, **other)
    subject.put([*images, foreign])
    study_uid = str(images[0].StudyInstanceUID)
    for series_uid in (images[0].SeriesInstanceUID, foreign.SeriesInstanceUID):
        code = code_of(lambda uid=series_uid: archive.delete_series(study_uid, uid))
        assert code == "conflict"
    assert len(archive.series_headers(study_uid)) == 2


def test_foreign_object_in_an_own_series_protects_it(subject: Subject) -> None:
    archive = subject.archive
    images = make_series(1)
    own = make_own(images)
    foreign = make_own(images, ManufacturerModelName="Scanner")
    foreign.SeriesInstanceUID = own.SeriesInstanceUID
    subject.put([*images, own, foreign])
    study_uid = str(images[0].StudyInstanceUID)
    call = lambda: archive.delete_series(study_uid, own.SeriesInstanceUID)  # noqa: E731
    assert code_of(call) == "conflict"
    assert len(archive.series_headers(study_uid)) == 2


@pytest.mark.parametrize("uid", BAD_UIDS)
def test_malformed_uid_deletes_nothing(subject: Subject, uid: str) -> None:
    archive = subject.archive
    images = make_series(1)
    own = make_own(images)
    subject.put([*images, own])
    study_uid = str(images[0].StudyInstanceUID)
    assert code_of(lambda: archive.delete_series(study_uid, uid)) == "series-not-found"
    assert (
        code_of(lambda: archive.delete_series(uid, own.SeriesInstanceUID))
        == "study-not-found"
    )
    assert len(archive.series_headers(study_uid)) == 2

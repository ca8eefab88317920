"""The real Orthanc: what it was configured to refuse, and real compressed images."""

from __future__ import annotations

import io
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from errors import MetiaError
from orthanc.dicomweb import encode_part10
from tests.orthanc_server import (
    OrthancServer,
    free_port,
    reason_to_skip,
    running_orthanc,
)
from tests.scripted_archive import Behave, ScriptedArchive
from tests.small_series import make_series

# -- what the configuration promises --------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/", "/system", "/instances", "/dicom-web/studies", "/wado", "/app/explorer.html"],
)
def test_nobody_is_let_in_without_password(orthanc: OrthancServer, path: str) -> None:
    for auth in (None, ("metia", "wrong"), ("orthanc", "orthanc")):
        response = httpx.get(orthanc.url + path, auth=auth, trust_env=False)
        assert response.status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("POST", "/tools/execute-script", b"print(1)"),
        ("GET", "/app/explorer.html", b""),
        ("GET", "/webdav/", b""),
        ("PROPFIND", "/webdav/", b""),
    ],
)
def test_dangerous_doors_are_shut(
    orthanc: OrthancServer, method: str, path: str, content: bytes
) -> None:
    with orthanc.client() as client:
        response = client.request(method, path, content=content)
    assert response.status_code in {401, 403, 404, 405, 501}, response.status_code


def test_nothing_can_be_exported_to_its_disk(
    orthanc: OrthancServer, tmp_path: Path
) -> None:
    images = make_series(1)
    orthanc.upload(images)
    target = tmp_path / "out.dcm"
    with orthanc.client() as client:
        for item in client.get("/instances").json():
            response = client.post(f"/instances/{item}/export", content=str(target))
            assert not response.is_success
            break
    assert not target.exists()


def test_images_are_not_replaced(orthanc: OrthancServer) -> None:
    (image,) = make_series(1)
    orthanc.upload([image])
    changed = pydicom.dcmread(io.BytesIO(encode_part10(image)))
    changed.SeriesDescription = "changed"
    orthanc.upload([changed])
    assert fetch(orthanc, image) == [image]


def test_answers_are_not_compressed(orthanc: OrthancServer) -> None:
    with orthanc.client() as client:
        response = client.get("/statistics", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in response.headers


@pytest.mark.skipif(bool(reason_to_skip()), reason=str(reason_to_skip()))
@pytest.mark.skipif(
    shutil.which("storescu") is None, reason="DCMTK is not installed (`make setup-dev`)"
)
def test_only_known_modalities_may_store_or_query(tmp_path: Path) -> None:
    (image,) = make_series(1)
    path = tmp_path / "image.dcm"
    path.write_bytes(encode_part10(image))
    port = free_port()
    peer = ["127.0.0.1", str(port)]

    def run(
        program: str, calling: str, called: str, *more: str
    ) -> subprocess.CompletedProcess[bytes]:
        command = [program, "-aet", calling, "-aec", called, *peer, *more]
        return subprocess.run(command, capture_output=True, timeout=20)

    def stores(calling: str, called: str) -> bool:
        return run("storescu", calling, called, str(path)).returncode == 0

    def finds(calling: str) -> bool:
        query = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID")
        answer = run("findscu", calling, "METIA", *query)
        return image.StudyInstanceUID.encode() in answer.stdout + answer.stderr

    with running_orthanc(tmp_path, dicom_port=port) as server:
        assert run("echoscu", "ANYONE", "METIA").returncode == 0
        assert not stores("SCANNER", "METIA")
        with server.client() as client:
            known = {"AET": "SCANNER", "Host": "127.0.0.1", "Port": 104}
            client.put("/modalities/scanner", json=known).raise_for_status()
        assert not stores("SCANNER", "OTHER")
        assert stores("SCANNER", "METIA")
        assert fetch(server, image) == [image]
        assert finds("SCANNER")
        assert not finds("ANYONE")


# -- images as they are in the world --------------------------------------------------


def fetch(orthanc: OrthancServer, image: Dataset) -> list[Dataset]:
    return orthanc.archive().fetch_series(
        image.StudyInstanceUID, image.SeriesInstanceUID
    )


def upload_copies(
    orthanc: OrthancServer, paths: list[Path], drop: Callable[[Dataset], bool]
) -> list[Dataset]:
    """Upload files under fresh UIDs: several of them are one image in other clothes."""
    study, series = generate_uid(), generate_uid()
    copies = []
    for path in sorted(paths):
        image = pydicom.dcmread(path)
        if drop(image):
            continue
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SOPInstanceUID = generate_uid()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        copies.append(image)
    orthanc.upload(copies)
    return copies


def test_one_image_in_nine_syntaxes_is_one_image(
    orthanc: OrthancServer, shared_data: Path
) -> None:
    paths = list((shared_data / "dicom_dcm_qa_ts").glob("*.dcm"))
    sent = upload_copies(orthanc, paths, lambda _image: False)
    fetched = fetch(orthanc, sent[0])
    assert {image.SOPInstanceUID for image in fetched} == {
        image.SOPInstanceUID for image in sent
    }
    reference = fetched[0].pixel_array
    assert reference.any()
    for image in fetched:
        np.testing.assert_array_equal(image.pixel_array, reference)


@pytest.mark.parametrize(
    "folder",
    [
        "compressed",
        "compressed_j2k",
        "compressed_jpeg",
        "compressed_jpegls",
        "compressed_rle",
    ],
)
def test_compressed_series_equals_the_uncompressed(
    orthanc: OrthancServer, shared_data: Path, folder: str
) -> None:
    generic = shared_data / "dicom_dicom2nifti" / "generic"
    sent = upload_copies(
        orthanc, list((generic / folder).rglob("*.dcm")), lambda _image: False
    )
    plain = [
        pydicom.dcmread(path)
        for path in sorted((generic / "compressed_rle").rglob("*.dcm"))
    ]
    with ScriptedArchive(orthanc.url, [Behave()], "/dicom-web/") as counting:
        fetched = orthanc.archive(url=counting.url).fetch_series(
            sent[0].StudyInstanceUID, sent[0].SeriesInstanceUID
        )
    # One request, or two where the archive has to decode; never one an image.
    assert len(counting.requests) <= 2
    assert [image.SOPInstanceUID for image in fetched] == [
        image.SOPInstanceUID for image in sorted(sent, key=lambda i: i.InstanceNumber)
    ]
    by_number = {image.InstanceNumber: image.pixel_array for image in plain}
    for image in fetched:
        np.testing.assert_array_equal(
            image.pixel_array, by_number[image.InstanceNumber]
        )


def test_syntax_nobody_can_decode_is_refused(orthanc: OrthancServer) -> None:
    images = make_series(3)
    for image in images:
        image.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
        # RLE bytes under the name of HTJ2K.
        image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
    orthanc.upload(images)
    with pytest.raises(MetiaError) as caught:
        fetch(orthanc, images[0])
    assert caught.value.code == "volume-undecodable"
    with pytest.raises(MetiaError) as caught:
        orthanc.archive().fetch_instance(
            images[0].StudyInstanceUID,
            images[0].SeriesInstanceUID,
            images[0].SOPInstanceUID,
        )
    assert caught.value.code == "volume-undecodable"
    # Choosing among series needs no pixels.
    (header,) = orthanc.archive().series_headers(images[0].StudyInstanceUID)
    assert header.instance_count == 3


def test_enhanced_header_leaves_the_frames_behind(
    orthanc: OrthancServer, shared_data: Path
) -> None:
    folder = shared_data / "dicom_dicom2nifti" / "philips_enhanced" / "anatomical"
    (sent,) = upload_copies(
        orthanc, list((folder / "001").glob("*.dcm")), lambda _image: False
    )
    (header,) = orthanc.archive().series_headers(sent.StudyInstanceUID)
    assert "PixelData" not in header.sample
    assert len(header.sample.PerFrameFunctionalGroupsSequence) == sent.NumberOfFrames
    (fetched,) = fetch(orthanc, sent)
    assert fetched == sent


def test_headers_of_twenty_series_come_in_half_a_second(
    orthanc: OrthancServer,
) -> None:
    study_uid = generate_uid()
    for number in range(20):
        orthanc.upload(make_series(20, study_uid=study_uid, SeriesNumber=number))
    archive = orthanc.archive()
    elapsed_s = []
    for _ in range(3):
        begun = time.perf_counter()
        headers = archive.series_headers(study_uid)
        elapsed_s.append(time.perf_counter() - begun)
    assert len(headers) == 20
    assert min(elapsed_s) < 0.5

"""SEGs of readers' versions judged by others: dciodvfy, dcmqi, and a real Orthanc."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset

from segmentation.dicom.seg import Segment, segments_as_labels
from segmentation.dicom.seg_versions import (
    StoredObject,
    Version,
    build_version,
    identify_version,
)
from tests.integration.test_seg_oracles import complaints, dcmqi_labels
from tests.orthanc_server import OrthancServer
from tests.reader_edits import make_desk
from tests.security.application import Application, make_empty_database
from tests.seg_sources import (
    MODEL,
    PARAMETERS,
    classic_series,
    enhanced_image,
    grid,
    lesions_on,
    oblique,
)

TYPES = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL", "MANUAL")
BEFORE = StoredObject("2.25.8", "2.25.9")


def drawn(
    geometry: hd.VolumeGeometry, images: list[Dataset], version: Version
) -> tuple[hd.seg.Segmentation, np.ndarray]:
    found = lesions_on(geometry, 4)
    segments = [
        Segment(f"Läsion {n} ü", f"Metastasis {n}", f"2.25.10{n}", (230, 159, 0), kind)
        for n, kind in enumerate(TYPES, 1)
    ]
    identity = identify_version("case", str(version.number))
    return (
        build_version(images, found.labels, segments, identity, version),
        found.labels.array,
    )


@pytest.mark.parametrize(
    "version",
    [
        Version(2, "Reader One", MODEL, PARAMETERS, BEFORE),
        Version(13, "Müller^Jürgen = \\ x" * 9, MODEL, PARAMETERS, None),
        Version(2, "", None, {}, BEFORE),
    ],
    ids=["usual", "odd-name", "no-model"],
)
@pytest.mark.parametrize("kind", ["binary", "fractional", "oblique", "enhanced"])
def test_versions_are_valid_and_read_back(
    kind: str, version: Version, tmp_path: Path
) -> None:
    geometry = grid((12, 31, 33) if kind == "fractional" else (12, 64, 72))
    if kind == "oblique":
        geometry = grid((12, 64, 72), (6.5, 0.6875, 0.7), oblique(12))
    enhanced = kind == "enhanced"
    images = [enhanced_image(geometry)] if enhanced else classic_series(geometry)
    segmentation, labels = drawn(geometry, images, version)
    path = tmp_path / "seg.dcm"
    segmentation.save_as(path)
    assert complaints(path) == ([], [])
    np.testing.assert_array_equal(segments_as_labels(segmentation, geometry), labels)
    read, meta = dcmqi_labels(path, tmp_path, geometry)
    np.testing.assert_array_equal(read, labels)
    told = [one[0]["SegmentAlgorithmType"] for one in meta["segmentAttributes"]]
    assert told == list(TYPES)


def test_a_correction_in_a_real_archive_is_valid(
    orthanc: OrthancServer, tmp_path: Path
) -> None:
    folder = tmp_path / "application"
    folder.mkdir()
    application = Application(folder, make_empty_database(tmp_path))
    desk = make_desk(application, orthanc.archive(retries=1))
    labels = desk.labels.copy()
    labels[10:13][labels[10:13] == 1] = 0
    labels[2:6, 5:15, 6:16] = 3
    new = {"number": 3, "lesion_id": None, "name": "Right frontal"}
    answer = desk.save(labels, [*desk.kept(), new])
    assert answer.status_code == 201, answer.json
    np.testing.assert_array_equal(desk.stored(answer.json), labels)
    path = tmp_path / "corrected.dcm"
    desk.seg(answer.json).save_as(path)
    assert complaints(path) == ([], [])
    read, _ = dcmqi_labels(path, tmp_path, desk.grid)
    np.testing.assert_array_equal(read, labels)

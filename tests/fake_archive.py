"""An archive in memory: what tests give to code that needs an ``Archive``.

Keeps the same promises as the real one; ``tests/contract/test_archive.py`` holds both
to them. Images are kept as bytes, so that nobody shares a dataset with the archive.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable, Sequence

import pydicom
from pydicom.dataset import Dataset

from errors import MetiaError
from orthanc.archive import (
    Progress,
    SeriesHeader,
    SeriesListing,
    StoreReceipt,
    is_own,
)
from orthanc.dicomweb import encode_part10, is_decodable, is_uid

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class FakeArchive:
    """An ``Archive`` in memory.

    Attributes
    ----------
    unstable : set of str
        Study UIDs that are "still arriving" for as long as a test leaves them here.
    fail_with : MetiaError or None
        Raised by every method while set.
    """

    def __init__(self) -> None:
        self.unstable: set[str] = set()
        self.fail_with: MetiaError | None = None
        self._files: dict[tuple[str, str, str, str], bytes] = {}
        self._lock = threading.Lock()

    def put(self, datasets: Sequence[Dataset]) -> None:
        """Put images in, as a scanner does; what is there already stays."""
        for dataset in datasets:
            content = encode_part10(dataset)
            with self._lock:
                self._files.setdefault(_key(dataset), content)

    def ping(self) -> None:
        """Do nothing, unless told to fail."""
        self._fail()

    def studies_of_patient(self, patient_id: str) -> list[str]:
        """List the studies of a patient ID, the newest first."""
        self._fail()
        with self._lock:
            found = {key[1]: self._files[key] for key in self._files
                     if key[0].strip() == patient_id.strip() != ""}  # fmt: skip
        images = [_read(content, header_only=True) for content in found.values()]
        when = sorted(
            (
                (str(i.get("StudyDate", "")), str(i.get("StudyTime", "")),
                 str(i.StudyInstanceUID))
                for i in images
            ),
            reverse=True,
        )  # fmt: skip
        return [uid for *_, uid in when if is_uid(uid)]

    def series_headers(self, study_uid: str) -> list[SeriesHeader]:
        """List the series of a study."""
        self._fail()
        series: dict[str, list[Dataset]] = {}
        for uids, content in self._study(study_uid).items():
            series.setdefault(uids[1], []).append(_read(content, header_only=True))
        headers = []
        for series_uid, images in series.items():
            images.sort(key=_order)
            middle = images[len(images) // 2]
            headers.append(SeriesHeader(series_uid, len(images), middle))
        return sorted(
            headers,
            key=lambda h: (int(h.sample.get("SeriesNumber") or 0), h.series_uid),
        )

    def wait_until_stable(
        self, study_uid: str, timeout_s: float, cancelled: Callable[[], bool]
    ) -> None:
        """Wait while the study is among ``unstable``."""
        end = time.monotonic() + timeout_s
        self._fail()
        self._study(study_uid)
        while study_uid in self.unstable:
            if time.monotonic() >= end or cancelled():
                raise MetiaError(
                    "series-not-stable", "Images of the study are still arriving."
                )
            time.sleep(0.01)

    def list_series(self, study_uid: str, series_uid: str) -> SeriesListing:
        """List a series."""
        self._fail()
        series = self._series(study_uid, series_uid)
        return SeriesListing(
            tuple(
                f"{uids[2]} {hashlib.sha256(content).hexdigest()}"
                for uids, content in sorted(series.items())
            ),
            sum(map(len, series.values())),
        )

    def fetch_series(
        self, study_uid: str, series_uid: str, progress: Progress | None = None
    ) -> list[Dataset]:
        """Give every image of a series."""
        self._fail()
        images = [
            _read(content) for content in self._series(study_uid, series_uid).values()
        ]
        for number, image in enumerate(images):
            _refuse_opaque(image)
            if progress:
                progress((number + 1) / len(images))
        return sorted(images, key=_order)

    def fetch_instance(
        self, study_uid: str, series_uid: str, sop_instance_uid: str
    ) -> Dataset:
        """Give one image."""
        self._fail()
        series = self._series(study_uid, series_uid)
        key = (study_uid, series_uid, sop_instance_uid)
        if key not in series:
            raise MetiaError("not-found", "The series has no such image.")
        image = _read(series[key])
        _refuse_opaque(image)
        return image

    def store(self, datasets: Sequence[Dataset]) -> list[StoreReceipt]:
        """Take objects in."""
        self._fail()
        receipts = []
        for dataset in datasets:
            uids = _uids(dataset)
            if not all(is_uid(uid) for uid in uids):
                raise MetiaError("archive-rejected", "The object lacks a valid UID.")
            with self._lock:
                already = any(key[1:] == uids for key in self._files)
            if not already:
                self.put([dataset])
            receipts.append(StoreReceipt(*uids, already_stored=already))
        return receipts

    def delete_series(self, study_uid: str, series_uid: str) -> None:
        """Delete a series that MetIA wrote."""
        self._fail()
        series = self._series(study_uid, series_uid)
        for content in series.values():
            if not is_own(_read(content, header_only=True)):
                raise MetiaError("conflict", "MetIA did not write this series.")
        with self._lock:
            for key in [key for key in self._files if key[1:] in series]:
                del self._files[key]

    def delete_study(self, study_uid: str) -> None:
        """Delete a study."""
        self._fail()
        gone = self._study(study_uid)
        with self._lock:
            for key in [key for key in self._files if key[1:] in gone]:
                del self._files[key]

    def _fail(self) -> None:
        if self.fail_with is not None:
            raise self.fail_with

    def _study(self, study_uid: str) -> dict[tuple[str, str, str], bytes]:
        with self._lock:
            keys = [key for key in self._files if key[1] == study_uid]
            files = {key[1:]: self._files[key] for key in keys}
        if not files:
            raise MetiaError("study-not-found", "The archive has no such study.")
        if len({key[0] for key in keys}) > 1:
            raise MetiaError(
                "archive-ambiguous", "The archive holds these UIDs more than once."
            )
        return files

    def _series(
        self, study_uid: str, series_uid: str
    ) -> dict[tuple[str, str, str], bytes]:
        study = self._study(study_uid)
        found = {uids: study[uids] for uids in study if uids[1] == series_uid}
        if not found:
            raise MetiaError("series-not-found", "The study has no such series.")
        return found


def _uids(dataset: Dataset) -> tuple[str, str, str]:
    study, series, instance = (str(dataset.get(keyword, "")) for keyword in _UIDS)
    return study, series, instance


def _key(dataset: Dataset) -> tuple[str, str, str, str]:
    return (str(dataset.get("PatientID", "")), *_uids(dataset))


def _order(dataset: Dataset) -> tuple[int, str]:
    return int(dataset.get("InstanceNumber") or 0), str(dataset.SOPInstanceUID)


def _read(content: bytes, *, header_only: bool = False) -> Dataset:
    return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=header_only)


def _refuse_opaque(image: Dataset) -> None:
    if not is_decodable(image):
        raise MetiaError(
            "volume-undecodable", "Neither we nor the archive can decode the images."
        )

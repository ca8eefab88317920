"""The one place that talks to Orthanc, as the ``Archive`` of ``orthanc.archive``.

Images come by WADO-RS multipart in one answer, go by STOW-RS and are read back;
everything that is looked up comes by pyorthanc's REST calls. What comes is checked
against the archive's own list, so that a cut or short answer is never taken for a
series, and only what is missing is asked for again.

One instance per process, shared by all its threads. HTTP exceptions do not get out, and
neither do UIDs or texts of the archive: errors carry numbers only.
"""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Callable, Sequence

from pydicom.dataset import Dataset

from errors import MetiaError
from orthanc import dicomweb
from orthanc.archive import (
    Progress,
    SeriesHeader,
    SeriesListing,
    StoreReceipt,
    is_own,
)
from orthanc.connection import Connection, Limits, incomplete, unexpected
from orthanc.listing import (
    ListedInstance,
    Resource,
    listed_instance,
    main_tag,
    resources,
    series_order,
    studies_of,
)
from settings import Settings

_CANNOT_TRANSCODE = frozenset({400, 406, 415, 500, 501})
_POLL_STABLE_S = 0.5
_ORTHANC_DISK_FULL = frozenset({14, 15})  # CannotWriteFile, FullStorage
_HEADER_CHUNK_BYTES = 32_768


class OrthancArchive:
    """An Orthanc with its DICOMweb plugin, 1.10 or later.

    Parameters
    ----------
    url : str
        Of Orthanc's root, without a path of DICOMweb.
    user, password : str
        Orthanc's account; one that Orthanc does not know gives ``archive-denied``.
    connect_timeout_s, read_timeout_s : float
        For the connection, and for each pause within an answer.
    retries : int
        Further attempts after a failure that may pass.
    limits : Limits
        What is pulled at most.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        *,
        connect_timeout_s: float = 3.0,
        read_timeout_s: float = 30.0,
        retries: int = 3,
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._connection = Connection(
            url,
            user,
            password,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            retries=retries,
            limits=self._limits,
        )

    @classmethod
    def from_settings(
        cls, settings: Settings, *, retries: int | None = None
    ) -> OrthancArchive:
        """Open the archive that the settings name, with their patience or `retries`."""
        return cls(
            settings.archive_url,
            settings.archive_user,
            settings.archive_password.get_secret_value(),
            connect_timeout_s=settings.archive_connect_timeout_s,
            read_timeout_s=settings.archive_read_timeout_s,
            retries=settings.archive_retries if retries is None else retries,
        )

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def ping(self) -> None:
        """Raise ``MetiaError`` unless the archive answers and accepts us."""
        plugins = self._connection.ask(lambda rest: rest.get_plugins())
        if not isinstance(plugins, list) or "dicom-web" not in plugins:
            raise unexpected("There is no Orthanc with the DICOMweb plugin.")

    def studies_of_patient(self, patient_id: str) -> list[str]:
        """List the studies of exactly this patient ID (UIDs), the newest first."""
        if not patient_id.strip():
            return []
        query = {
            "Level": "Study",
            "CaseSensitive": True,
            "Expand": True,
            "Query": {"PatientID": patient_id.strip()},
        }
        answer = self._connection.ask(lambda rest: rest.post_tools_find(json=query))
        return studies_of(resources(answer), patient_id)

    def series_headers(self, study_uid: str) -> list[SeriesHeader]:
        """List the series of a study, in order of series number.

        Raises
        ------
        MetiaError
            ``study-not-found`` and the ``archive-*`` codes.
        """
        study = self._study(study_uid)
        children = self._connection.ask(
            lambda rest: rest.get_studies_id_series(study["ID"]), "study-not-found"
        )
        children = sorted(resources(children), key=series_order)
        return [self._series_header(child) for child in children]

    def wait_until_stable(
        self, study_uid: str, timeout_s: float, cancelled: Callable[[], bool]
    ) -> None:
        """Return once no image of the study has arrived for the archive's stable age.

        Raises
        ------
        MetiaError
            ``series-not-stable`` after `timeout_s`, or when `cancelled` turns true;
            ``study-not-found`` and the ``archive-*`` codes.
        """
        end = time.monotonic() + timeout_s
        while not self._study(study_uid).get("IsStable", False):
            left_s = end - time.monotonic()
            if left_s <= 0 or cancelled():
                raise MetiaError(
                    "series-not-stable", "Images of the study are still arriving."
                )
            time.sleep(min(_POLL_STABLE_S, left_s))

    def list_series(self, study_uid: str, series_uid: str) -> SeriesListing:
        """List a series: equal listings mean that ``fetch_series`` gives the same.

        Raises
        ------
        MetiaError
            ``study-not-found``, ``series-not-found`` and the ``archive-*`` codes.
        """
        listed = self._list_instances(self._series(study_uid, series_uid)["ID"])
        return SeriesListing(
            tuple(f"{item.orthanc_id} {item.file_id}" for item in listed),
            sum(item.size_bytes for item in listed),
        )

    def fetch_series(
        self, study_uid: str, series_uid: str, progress: Progress | None = None
    ) -> list[Dataset]:
        """Pull every instance of a series, in order of instance number.

        Raises
        ------
        MetiaError
            ``study-not-found``, ``series-not-found``; ``volume-too-large`` before
            anything is pulled; ``volume-undecodable`` where neither we nor the archive
            can decode; ``series-not-stable`` where the list changed during the pull;
            ``archive-incomplete`` where images stay missing; other ``archive-*``.
        """
        series_id = self._series(study_uid, series_uid)["ID"]
        listed = self._list_instances(series_id)
        self._refuse_too_large(listed)
        path = f"/dicom-web/studies/{study_uid}/series/{series_uid}"
        report = progress or (lambda _fraction: None)
        pulled = self._pull_all(path, dicomweb.ACCEPT_STORED, listed, report)
        for item in listed:
            if item.sop_instance_uid not in pulled:
                pulled[item.sop_instance_uid] = self._pull_file(item)
        opaque = [
            item
            for item in listed
            if not dicomweb.is_decodable(pulled[item.sop_instance_uid])
        ]
        if opaque:
            pulled |= self._pull_transcoded(path, opaque, whole=opaque == listed)
        if self._list_instances(series_id) != listed:
            raise MetiaError(
                "series-not-stable", "Images arrived while the series was read."
            )
        report(1.0)
        return [pulled[item.sop_instance_uid] for item in listed]

    def fetch_instance(
        self, study_uid: str, series_uid: str, sop_instance_uid: str
    ) -> Dataset:
        """Pull one instance, decodable.

        Raises
        ------
        MetiaError
            ``study-not-found``, ``series-not-found``, ``not-found``, and those of
            ``fetch_series``.
        """
        found = self._instance(study_uid, series_uid, sop_instance_uid)
        if found is None:
            self._series(study_uid, series_uid)
            raise MetiaError("not-found", "The series has no such image.")
        self._refuse_too_large([found])
        dataset = self._pull_file(found)
        if not dicomweb.is_decodable(dataset):
            path = f"/dicom-web/studies/{study_uid}/series/{series_uid}"
            pulled = self._pull_transcoded(path, [found], whole=False)
            dataset = pulled[sop_instance_uid]
        return dataset

    def store(self, datasets: Sequence[Dataset]) -> list[StoreReceipt]:
        """Store objects and read each back.

        Raises
        ------
        MetiaError
            ``archive-rejected``, ``disk-full``; ``archive-mismatch`` where what can be
            read back is not what was sent; other ``archive-*``.
        """
        files: dict[str, bytes] = {}
        receipts = []
        for dataset in datasets:
            uids = _uids_of(dataset)
            already = self._instance(*uids) is not None
            if not already:
                files[uids[2]] = dicomweb.encode_part10(dataset)
            receipts.append(StoreReceipt(*uids, already_stored=already))
        if files:
            self._send(files)
        for receipt in receipts:
            self._read_back(receipt, files.get(receipt.sop_instance_uid))
        return receipts

    def delete_series(self, study_uid: str, series_uid: str) -> None:
        """Delete a series that MetIA wrote; images of anyone else are never touched.

        Raises
        ------
        MetiaError
            ``conflict`` where an object of it is not MetIA's; ``study-not-found``,
            ``series-not-found`` and the ``archive-*`` codes.
        """
        series_id = self._series(study_uid, series_uid)["ID"]
        for item in self._list_instances(series_id):
            if not is_own(self._read_header(item)):
                raise MetiaError("conflict", "MetIA did not write this series.")
        self._connection.ask(
            lambda rest: rest.delete_series_id(series_id), "series-not-found"
        )

    def delete_study(self, study_uid: str) -> None:
        """Delete a study with everything in it, whoever wrote it.

        Raises
        ------
        MetiaError
            ``study-not-found`` and the ``archive-*`` codes.
        """
        study_id = self._study(study_uid)["ID"]
        self._connection.ask(
            lambda rest: rest.delete_studies_id(study_id), "study-not-found"
        )

    # -- looking up ----------------------------------------------------------------

    def _study(self, study_uid: str) -> Resource:
        found = self._find("Study", StudyInstanceUID=study_uid)
        if found is None:
            raise MetiaError("study-not-found", "The archive has no such study.")
        return found

    def _series(self, study_uid: str, series_uid: str) -> Resource:
        found = self._find(
            "Series", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid
        )
        if found is None:
            self._study(study_uid)
            raise MetiaError("series-not-found", "The study has no such series.")
        return found

    def _instance(
        self, study_uid: str, series_uid: str, sop_instance_uid: str
    ) -> ListedInstance | None:
        found = self._find(
            "Instance",
            StudyInstanceUID=study_uid,
            SeriesInstanceUID=series_uid,
            SOPInstanceUID=sop_instance_uid,
        )
        return None if found is None else listed_instance(found)

    def _find(self, level: str, **uids: str) -> Resource | None:
        """Find the one resource of these UIDs; malformed ones find nothing, unasked."""
        if not all(dicomweb.is_uid(uid) for uid in uids.values()):
            return None
        query = {"Level": level, "Query": uids, "Expand": True}
        found = resources(
            self._connection.ask(lambda rest: rest.post_tools_find(json=query))
        )
        if len(found) > 1:
            # Orthanc keeps apart what lies under different patient IDs.
            raise MetiaError(
                "archive-ambiguous", "The archive holds these UIDs more than once."
            )
        return found[0] if found else None

    def _list_instances(self, series_id: str) -> list[ListedInstance]:
        answer = self._connection.ask(
            lambda rest: rest.get_series_id_instances(series_id), "series-not-found"
        )
        listed = [listed_instance(item) for item in resources(answer)]
        return sorted(listed, key=lambda item: (item.number, item.sop_instance_uid))

    def _series_header(self, series: Resource) -> SeriesHeader:
        listed = self._list_instances(series["ID"])
        if not listed:
            raise MetiaError("series-not-found", "A series was deleted meanwhile.")
        sample = self._read_header(listed[len(listed) // 2])
        return SeriesHeader(main_tag(series, "SeriesInstanceUID"), len(listed), sample)

    def _read_header(self, item: ListedInstance) -> Dataset:
        def read() -> Dataset:
            with self._connection.stream(item.path) as response:
                chunks = response.iter_bytes(_HEADER_CHUNK_BYTES)
                return dicomweb.parse_part10(
                    dicomweb.LazyFile(chunks), header_only=True
                )

        return self._connection.retrying(read, "archive-incomplete")

    # -- pulling -------------------------------------------------------------------

    def _refuse_too_large(self, listed: Sequence[ListedInstance]) -> None:
        size_bytes = sum(item.size_bytes for item in listed)
        if (
            len(listed) > self._limits.instances
            or size_bytes > self._limits.answer_bytes
        ):
            raise MetiaError(
                "volume-too-large",
                f"The series has {len(listed)} images and {size_bytes / 1e6:.1f} MB; "
                f"at most {self._limits.instances} images and "
                f"{self._limits.answer_bytes / 1e6:.1f} MB are read.",
                {"instance_count": len(listed), "size_bytes": size_bytes},
            )

    def _pull_all(
        self, path: str, accept: str, wanted: Sequence[ListedInstance], report: Progress
    ) -> dict[str, Dataset]:
        """Pull what comes whole of a multipart answer.

        Of a cut answer the complete parts are kept: the caller asks for the rest.
        """
        sizes = {item.sop_instance_uid: item.size_bytes for item in wanted}
        stored = accept == dicomweb.ACCEPT_STORED
        pulled: dict[str, Dataset] = {}
        try:
            with self._connection.stream(path, accept) as response:
                boundary = dicomweb.multipart_boundary(
                    response.headers.get("Content-Type", "")
                )
                for part in dicomweb.split_multipart(response.iter_bytes(), boundary):
                    dataset = dicomweb.parse_part10(io.BytesIO(part))
                    uid = str(dataset.get("SOPInstanceUID", ""))
                    if uid in sizes and (not stored or len(part) == sizes[uid]):
                        pulled[uid] = dataset
                        report(len(pulled) / len(sizes) * 0.99)
        except MetiaError as error:
            if error.code != "archive-incomplete":
                raise
        return pulled

    def _pull_file(self, item: ListedInstance) -> Dataset:
        try:
            return dicomweb.parse_part10(io.BytesIO(self._read_file(item)))
        except dicomweb.BrokenAnswer as error:
            # It has the listed length, so this is what the archive holds.
            raise MetiaError("volume-undecodable", str(error)) from error

    def _read_file(self, item: ListedInstance) -> bytes:
        """Read one file as it is stored, and insist on its length."""

        def read() -> bytes:
            with self._connection.stream(item.path) as response:
                content = response.read()
            if len(content) != item.size_bytes:
                raise incomplete()
            return content

        try:
            return self._connection.retrying(read, "archive-incomplete")
        except MetiaError as error:
            if error.facts.get("archive_status") == 500:
                # Orthanc's answer where the file is gone from its storage.
                raise incomplete() from error
            raise

    def _pull_transcoded(
        self, path: str, wanted: Sequence[ListedInstance], *, whole: bool
    ) -> dict[str, Dataset]:
        """Pull decodable copies; the archive decodes what we cannot."""
        pulled: dict[str, Dataset] = {}
        try:
            if whole and len(wanted) > 1:
                pulled = self._pull_all(
                    path, dicomweb.ACCEPT_TRANSCODED, wanted, lambda _fraction: None
                )
            for item in wanted:
                if item.sop_instance_uid not in pulled:
                    pulled |= self._pull_one_transcoded(path, item)
        except MetiaError as error:
            # Orthanc answers 500 for a syntax it cannot decode.
            if error.facts.get("archive_status") in _CANNOT_TRANSCODE:
                raise _undecodable() from error
            raise
        if not all(map(dicomweb.is_decodable, pulled.values())):
            raise _undecodable()
        return pulled

    def _pull_one_transcoded(
        self, path: str, item: ListedInstance
    ) -> dict[str, Dataset]:
        uid = item.sop_instance_uid
        if not dicomweb.is_uid(uid):
            # A sender can give an image a "UID" that is a path; it must not be one.
            raise _undecodable()

        def pull() -> dict[str, Dataset]:
            pulled = self._pull_all(
                f"{path}/instances/{uid}",
                dicomweb.ACCEPT_TRANSCODED,
                [item],
                lambda _fraction: None,
            )
            if not pulled:
                raise incomplete()
            return pulled

        return self._connection.retrying(pull, "archive-incomplete")

    # -- storing -------------------------------------------------------------------

    def _send(self, files: dict[str, bytes]) -> None:
        boundary = secrets.token_hex(16).encode("ascii")
        body = dicomweb.encode_multipart(list(files.values()), boundary)
        headers = {
            "Content-Type": 'multipart/related; type="application/dicom"; '
            f"boundary={boundary.decode('ascii')}",
            "Accept": "application/dicom+json",
        }
        _, answer = self._connection.send("/dicom-web/studies", body, headers)
        stored = dicomweb.stored_instances(answer)
        for uid, content in files.items():
            if uid not in stored:
                self._send_alone(content)

    def _send_alone(self, content: bytes) -> None:
        """Store by REST what STOW-RS did not store, as only REST says why not."""
        status, answer = self._connection.send("/instances", content)
        reason = answer.get("OrthancStatus")
        facts: dict[str, object] = {"archive_status": status, "orthanc_status": reason}
        if status < 300:
            return
        if status == 507 or reason in _ORTHANC_DISK_FULL:
            raise MetiaError(
                "disk-full", "The archive cannot write to its disk.", facts
            )
        raise MetiaError(
            "archive-rejected" if status < 500 else "archive-unavailable",
            f"The archive answered {status} (Orthanc status {reason}).",
            facts,
        )

    def _read_back(self, receipt: StoreReceipt, sent: bytes | None) -> None:
        found = self._instance(
            receipt.study_uid, receipt.series_uid, receipt.sop_instance_uid
        )
        if found is None:
            raise MetiaError("archive-rejected", "The stored object cannot be found.")
        content = self._read_file(found)
        if sent is not None and not dicomweb.same_object(content, sent):
            raise MetiaError(
                "archive-mismatch", "The object read back is not the one stored."
            )


def _uids_of(dataset: Dataset) -> tuple[str, str, str]:
    uids = tuple(
        str(dataset.get(keyword, ""))
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    if not all(dicomweb.is_uid(uid) for uid in uids):
        raise MetiaError("archive-rejected", "The object lacks a valid UID.")
    return uids[0], uids[1], uids[2]


def _undecodable() -> MetiaError:
    return MetiaError(
        "volume-undecodable", "Neither we nor the archive can decode the images."
    )

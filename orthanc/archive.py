"""What the product needs of an image archive, as a protocol.

Two implementations: ``orthanc.gateway.OrthancArchive`` (the real one) and the in-memory
one of the tests; one contract suite runs against both. Methods raise ``MetiaError``
with the ``archive-*``, ``study-not-found``, ``series-not-found``, ``not-found`` (image)
and ``series-not-stable`` codes and no exception of an HTTP library.
Safe to share between threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydicom.dataset import Dataset

Progress = Callable[[float], None]
"""Called with the fraction done, 0 to 1."""


@dataclass(frozen=True)
class SeriesHeader:
    """One series of a study, as far as choosing among series needs it.

    Attributes
    ----------
    series_uid : str
    instance_count : int
        Instances the archive lists for the series.
    sample : Dataset
        Header (no pixel data) of the instance in the middle of the series.
    """

    series_uid: str
    instance_count: int
    sample: Dataset


@dataclass(frozen=True)
class SeriesListing:
    """What the archive lists of a series, to be compared with an earlier listing.

    Attributes
    ----------
    instances : tuple of str
        One text for each instance, another one as soon as its file is another.
    size_bytes : int
        Of all its files.
    """

    instances: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True)
class StoreReceipt:
    """What became of a stored object.

    Attributes
    ----------
    already_stored : bool
        The archive held an object of this SOP Instance UID before.
    """

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    already_stored: bool


OWN_MODALITIES = ("SEG", "SR", "RTSTRUCT")
OWN_MODEL_NAME = "MetIA"


def is_own(header: Dataset) -> bool:
    """Tell whether MetIA wrote an object: it says so, and is of a kind MetIA writes."""
    return (
        str(header.get("ManufacturerModelName", "")).strip() == OWN_MODEL_NAME
        and str(header.get("Modality", "")) in OWN_MODALITIES
    )


class Archive(Protocol):
    """An image archive."""

    def ping(self) -> None:
        """Raise ``MetiaError`` unless the archive answers and accepts us."""

    def studies_of_patient(self, patient_id: str) -> list[str]:
        """List the studies of exactly this patient ID (UIDs), the newest first.

        Empty where there is none. IDs are unique within their issuer only, which is
        for the caller to compare.
        """

    def series_headers(self, study_uid: str) -> list[SeriesHeader]:
        """List the series of a study, in order of series number."""

    def wait_until_stable(
        self, study_uid: str, timeout_s: float, cancelled: Callable[[], bool]
    ) -> None:
        """Return once no image of the study has arrived for the archive's stable age.

        Raises ``series-not-stable`` after `timeout_s`, or when `cancelled` turns true.
        """

    def list_series(self, study_uid: str, series_uid: str) -> SeriesListing:
        """List a series: equal listings mean that ``fetch_series`` gives the same."""

    def fetch_series(
        self, study_uid: str, series_uid: str, progress: Progress | None = None
    ) -> list[Dataset]:
        """Pull every instance of a series, decodable, by instance number.

        The count and the SOP Instance UIDs equal the archive's list, else
        ``archive-incomplete``. Syntaxes that cannot be decoded here are asked for as a
        transcoded (Explicit VR Little Endian) copy; UIDs stay those of the original.
        """

    def fetch_instance(
        self, study_uid: str, series_uid: str, sop_instance_uid: str
    ) -> Dataset:
        """Pull one instance."""

    def store(self, datasets: Sequence[Dataset]) -> list[StoreReceipt]:
        """Store objects (STOW-RS) and check that each can be read back.

        An object whose SOP Instance UID is already there is left as it is and reported
        as such; whether it is the same is for the caller to compare.
        """

    def delete_series(self, study_uid: str, series_uid: str) -> None:
        """Delete a series that MetIA wrote.

        Raises ``conflict``, and deletes nothing, where any object of it is not MetIA's
        (see `is_own`); ``study-not-found`` and ``series-not-found`` where it is not
        there (any more).
        """

    def delete_study(self, study_uid: str) -> None:
        """Delete a study with everything in it, whoever wrote it.

        For an administrator who asked for exactly this study. Raises
        ``study-not-found`` where it is not there (any more) and ``archive-ambiguous``
        where it lies under several patients.
        """

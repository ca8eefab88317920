"""A list of changes in memory, over the archive in memory.

Numbers its changes as Orthanc does and forgets them as Orthanc can: a test empties the
list or puts another archive's in its place. Studies go by a hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

from pydicom.dataset import Dataset

from errors import MetiaError
from orthanc.changes import ArrivedStudy, Changes, Place
from tests.fake_archive import FakeArchive


def name_of(study_uid: str) -> str:
    """Give the archive's own name of a study."""
    return hashlib.sha1(study_uid.encode(), usedforsecurity=False).hexdigest()


class FakeChanges:
    """A ``ChangeLog`` in memory.

    Attributes
    ----------
    page : int
        Changes told at once.
    fail_with : MetiaError or None
        Raised by every method while set.
    senders : dict
        AE title of a study, by its name here.
    """

    def __init__(self, archive: FakeArchive) -> None:
        self._archive = archive
        self._events: list[tuple[int, str]] = []
        self._last = 0
        self._name = "log-1"
        self.page = 1000
        self.fail_with: MetiaError | None = None
        self.senders: dict[str, str] = {}

    def arrive(self, images: list[Dataset]) -> str:
        """Put a study in; gives its UID."""
        self._archive.put(images)
        study_uid = str(images[0].StudyInstanceUID)
        self.note(study_uid)
        return study_uid

    def note(self, study_uid: str) -> None:
        """Say that something happened to a study."""
        self._last += 1
        self._events.append((self._last, name_of(study_uid)))

    def empty(self) -> None:
        """Forget all changes; numbers go on."""
        self._events.clear()

    def replace(self) -> None:
        """Be the list of another archive that holds the same studies, anew."""
        studies = dict.fromkeys(name for _, name in self._events)
        self._name += "'"
        self._events = list(enumerate(studies, start=1))
        self._last = len(self._events)

    def newest(self) -> Place:
        """Give the end of the list."""
        self._fail()
        return self._place(self._events[-1]) if self._events else Place(self._last, "")

    def after(self, place: Place) -> Changes | None:
        """List what came after a place."""
        self._fail()
        if place.mark and all(self._place(event) != place for event in self._events):
            return None
        if self._last < place.sequence:
            return None
        found = [event for event in self._events if event[0] > place.sequence]
        told = found[: self.page]
        return Changes(
            tuple(dict.fromkeys(name for _, name in told)),
            self._place(told[-1]) if told else place,
            at_end=len(told) == len(found),
        )

    def updated_since(self, moment: datetime) -> Iterator[tuple[str, ...]]:
        """List every study, as all arrived just now."""
        self._fail()
        assert moment <= datetime.now(UTC)
        yield from ((name_of(study_uid),) for study_uid in self._studies())

    def study(self, archive_id: str) -> ArrivedStudy | None:
        """Look at a study."""
        self._fail()
        for study_uid in self._studies():
            if name_of(study_uid) == archive_id:
                return ArrivedStudy(study_uid, study_uid not in self._archive.unstable)
        return None

    def sender(self, archive_id: str, series_uid: str) -> str:
        """Give the AE title that sent a study."""
        self._fail()
        return self.senders.get(archive_id, "")

    def _studies(self) -> list[str]:
        return list(dict.fromkeys(key[1] for key in list(self._archive._files)))

    def _place(self, event: tuple[int, str]) -> Place:
        return Place(event[0], f"{self._name} {event[1]}")

    def _fail(self) -> None:
        if self.fail_with is not None:
            raise self.fail_with

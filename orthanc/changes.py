"""Orthanc's list of changes: which studies something has arrived in, and since when.

The list is numbered and lies in Orthanc's database, so that whoever remembers a
``Place`` in it can go on there after any restart. A place that is not in the list any
more (the list was emptied, its study deleted, another Orthanc put there) is told as
such, never skipped over: ``ChangeLog.after`` then gives None and the caller looks at
the studies themselves (``updated_since``). Orthanc forgets which studies still wait to
become stable when it restarts, so new series count, not only what became stable.
Studies go by Orthanc's own identifiers here. For one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from errors import MetiaError
from orthanc.connection import Connection, Limits, unexpected
from orthanc.listing import Resource, main_tag, resources
from settings import Settings

_OF_STUDIES = frozenset({"NewStudy", "StableStudy"})
_OF_SERIES = frozenset({"NewSeries"})
_PAGE = 500


@dataclass(frozen=True)
class Place:
    """A place in the list: after the change of this number.

    Attributes
    ----------
    sequence : int
        Number of the change; 0 is the beginning of the list.
    mark : str
        What the list says of it, so that another list's is not taken for it.
    """

    sequence: int
    mark: str


@dataclass(frozen=True)
class Changes:
    """Some changes.

    Attributes
    ----------
    studies : tuple of str
        In which something arrived or became stable, each once.
    place : Place
        After the last of them.
    at_end : bool
        Whether there were no more.
    """

    studies: tuple[str, ...]
    place: Place
    at_end: bool


@dataclass(frozen=True)
class ArrivedStudy:
    """A study as the archive has it now."""

    study_uid: str
    stable: bool


class ChangeLog(Protocol):
    """What an archive can tell about arrivals."""

    def newest(self) -> Place:
        """Give the end of the list."""

    def after(self, place: Place) -> Changes | None:
        """List what came after a place; None where the list does not have it."""

    def updated_since(self, moment: datetime) -> Iterator[tuple[str, ...]]:
        """List the studies in which something arrived since a moment, page by page."""

    def study(self, archive_id: str) -> ArrivedStudy | None:
        """Look at a study; None where it is gone."""

    def sender(self, archive_id: str, series_uid: str) -> str:
        """Give the AE title that sent a series; empty where it came otherwise."""


class OrthancChanges:
    """The list of changes of an Orthanc, 1.10 or later.

    Parameters
    ----------
    connection : Connection
        Of its own: a silent archive must hold up nobody else.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    def from_settings(cls, settings: Settings) -> OrthancChanges:
        """Open the archive that the settings name; whoever asks tries again himself."""
        return cls(
            Connection(
                settings.archive_url,
                settings.archive_user,
                settings.archive_password.get_secret_value(),
                connect_timeout_s=settings.archive_connect_timeout_s,
                read_timeout_s=settings.archive_read_timeout_s,
                retries=0,
                limits=Limits(),
            )
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def newest(self) -> Place:
        """Give the end of the list.

        Raises
        ------
        MetiaError
            The ``archive-*`` codes.
        """
        changes, last = self._read({"last": ""})
        return _place(changes[-1]) if changes else Place(last, "")

    def after(self, place: Place) -> Changes | None:
        """List what came after a place; None where the list does not have it.

        Raises
        ------
        MetiaError
            The ``archive-*`` codes.
        """
        begin = max(place.sequence - 1, 0)
        changes, last = self._read({"since": str(begin), "limit": str(_PAGE + 1)})
        if place.sequence > 0:
            first = _place(changes[0]) if changes else Place(last, "")
            if place.mark:
                if first != place:
                    return None
                del changes[0]
            # The list was empty at this place: what comes now must come after it.
            elif first.sequence < place.sequence or (
                changes and first.sequence == place.sequence
            ):
                return None
        if not changes:
            return Changes((), place, at_end=True)
        return Changes(
            self._studies_of(changes), _place(changes[-1]), at_end=len(changes) < _PAGE
        )

    def updated_since(self, moment: datetime) -> Iterator[tuple[str, ...]]:
        """List the studies in which something arrived since a moment, page by page.

        Raises
        ------
        MetiaError
            The ``archive-*`` codes.
        """
        since = 0
        while True:
            page = resources(
                self._connection.ask(
                    lambda rest, since=since: rest.get_studies(  # type: ignore[misc]
                        params={"expand": "", "since": since, "limit": _PAGE}
                    )
                )
            )
            yield tuple(item["ID"] for item in page if _updated(item) >= moment)
            if len(page) < _PAGE:
                return
            since += len(page)

    def study(self, archive_id: str) -> ArrivedStudy | None:
        """Look at a study; None where it is gone.

        Raises
        ------
        MetiaError
            The ``archive-*`` codes.
        """
        found = self._get(lambda rest: rest.get_studies_id(archive_id))
        if found is None:
            return None
        uid = main_tag(found, "StudyInstanceUID")
        return ArrivedStudy(uid, bool(found.get("IsStable", False)))

    def sender(self, archive_id: str, series_uid: str) -> str:
        """Give the AE title that sent a series; empty where it came otherwise.

        Raises
        ------
        MetiaError
            The ``archive-*`` codes.
        """
        for series in resources(
            self._get(lambda rest: rest.get_studies_id_series(archive_id)) or []
        ):
            instances = series.get("Instances")
            if main_tag(series, "SeriesInstanceUID") == series_uid and instances:
                stated = self._get(
                    lambda rest, first=str(instances[0]): (
                        rest.get_instances_id_metadata(first, params={"expand": ""})
                    )
                )
                return str((stated or {}).get("RemoteAET") or "").strip()
        return ""

    def _get(self, call: Any) -> Any:
        """Ask for what may be gone; None where it is."""
        try:
            return self._connection.ask(call, "not-found")
        except MetiaError as error:
            if error.code == "not-found":
                return None
            raise

    def _read(self, options: dict[str, str]) -> tuple[list[Resource], int]:
        answer = self._connection.ask(lambda rest: rest.get_changes(params=options))
        if not isinstance(answer, dict):
            raise unexpected("It does not list changes.")
        changes = resources(answer.get("Changes"))
        try:
            return changes, int(answer["Last"])
        except (KeyError, TypeError, ValueError):
            raise unexpected("It does not list changes.") from None

    def _studies_of(self, changes: list[Resource]) -> tuple[str, ...]:
        studies = dict.fromkeys(
            item["ID"] for item in changes if item.get("ChangeType") in _OF_STUDIES
        )
        for item in changes:
            if item.get("ChangeType") in _OF_SERIES:
                series_id = item["ID"]
                series = self._get(
                    lambda rest, name=series_id: rest.get_series_id(name)
                )
                parent = (series or {}).get("ParentStudy")
                if isinstance(parent, str):
                    studies[parent] = None
        return tuple(studies)


def _place(change: Resource) -> Place:
    try:
        sequence = int(change["Seq"])
    except (KeyError, TypeError, ValueError):
        raise unexpected("It does not number the changes.") from None
    mark = f"{change.get('ChangeType')} {change['ID']} {change.get('Date')}"
    return Place(sequence, mark)


def _updated(study: Resource) -> datetime:
    """Read when a study was last changed; unreadable counts as now."""
    try:
        told = datetime.strptime(str(study.get("LastUpdate", "")), "%Y%m%dT%H%M%S")
    except ValueError:
        return datetime.now(UTC)
    return told.replace(tzinfo=UTC)

"""Zero-click: a new study that matches the rule is queued by itself.

``ZeroClick`` reads the archive's list of changes, notes the studies in which something
arrived, and once a study is stable and matches the rule queues its job with the lowest
priority. One process of an installation does so at a time (a lease in the database);
all it knows lies in the database, so that it may be killed anywhere: what was noticed
and how far was read are written together, and so are a job and the end of its arrival.
A flood waits as arrivals, not as jobs: only ``zero_click_limit`` automatic jobs wait.
For one thread; log lines hold codes and counts, nothing of a study.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import structlog

from db import ahead, audit
from db.ahead import Arrival, FeedPosition
from db.encoding import canonical_hash
from db.engine import Engine, Session, database_time, reading, transaction
from db.jobs import JobRequest, count_queued, enqueue
from errors import MetiaError
from orthanc.archive import Archive
from orthanc.changes import ChangeLog, Place
from orthanc.series import SeriesCandidate
from segmentation.ahead.rule import Rule, judge
from segmentation.http.logs import describe_exception
from segmentation.models.predictor import ModelIdentity
from settings import Settings

log = structlog.get_logger(__name__)

LEASE = timedelta(seconds=30)
_BATCH = 20
"""Studies looked at between two readings of the list."""
_UNSTABLE_WAIT = timedelta(seconds=2)
_FIRST_RETRY_S = 5.0
_LONGEST_RETRY_S = 600.0
_TRIES = 12
"""A study that cannot be looked at so often is left to whoever opens it."""
_LONGEST_PAUSE_S = 30.0
_LOOK_BACK = timedelta(days=1)
"""Where changes were missed: room for clocks and time zones that differ."""
_NOT_THE_STUDYS_FAULT = frozenset(
    {
        "archive-unavailable",
        "archive-denied",
        "configuration-invalid",
        "database-unusable",
        "disk-full",
        "job-superseded",
    }
)
"""What fails for every other study too."""


class ZeroClick:
    """Queues jobs for what arrives.

    Parameters
    ----------
    settings : Settings
    engine : Engine
    archive : Archive
        To look at studies.
    changes : ChangeLog
        Tells what arrives.
    choose_model : Callable
        Gives the model that a press would use now.
    owner : str
        Name of this process, never used by another.
    lease : timedelta, optional
        How long a process that is not heard of keeps the others out.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        archive: Archive,
        changes: ChangeLog,
        choose_model: Callable[[], ModelIdentity],
        owner: str,
        lease: timedelta = LEASE,
    ) -> None:
        self._settings = settings
        self._rule = Rule.from_settings(settings)
        self._engine = engine
        self._archive = archive
        self._changes = changes
        self._choose_model = choose_model
        self._owner = owner
        self._lease = lease
        self._warned = False

    def run(self, stopped: threading.Event) -> None:
        """Work until stopped; whatever fails is tried again, ever more rarely."""
        pause_s = self._settings.zero_click_poll_s
        failing = ""
        while not stopped.is_set():
            try:
                more = self.step()
                pause_s = 0.0 if more else self._settings.zero_click_poll_s
                failing = ""
            except MetiaError as error:
                if error.code != failing:
                    log.warning("arrivals not read", code=error.code)
                failing = error.code
                pause_s = min(2 * max(pause_s, 0.5), _LONGEST_PAUSE_S)
            except Exception as error:  # noqa: BLE001 - must not end for one study
                log.error("reading arrivals broke", **describe_exception(error))
                pause_s = _LONGEST_PAUSE_S
            stopped.wait(pause_s)
        self._leave()

    def step(self) -> bool:
        """Read on in the list of changes, and look at some studies.

        Returns
        -------
        bool
            Whether there is more to do at once.

        Raises
        ------
        MetiaError
            The ``archive-*`` codes and those of the database; nothing is lost by it.
        """
        with transaction(self._engine) as session:
            now = database_time(session)
            position = ahead.take_feed(session, self._owner, lease=self._lease, now=now)
        if position is None:
            return False
        behind = self._read_on(position)
        return self._look() or behind

    # -- what has arrived ------------------------------------------------------

    def _read_on(self, position: FeedPosition) -> bool:
        """Note what arrived since; tells whether there is more."""
        if position.caught_up_at is None and position.sequence == 0:
            # What was there before the rule is nobody's wish.
            self._note((), self._changes.newest(), caught_up=True)
            return False
        found = self._changes.after(Place(position.sequence, position.mark))
        if found is None:
            self._look_through_all(position)
            return False
        if found.studies or found.place.sequence != position.sequence:
            self._note(found.studies, found.place, caught_up=found.at_end)
        return not found.at_end

    def _look_through_all(self, position: FeedPosition) -> None:
        """Find what was missed: the archive's list does not go on where we stopped."""
        log.warning("changes of the archive were missed, looking at its studies")
        since = position.caught_up_at or datetime.now(UTC)
        newest = self._changes.newest()
        missed: list[str] = []
        for page in self._changes.updated_since(since - _LOOK_BACK):
            missed += page
            with self._holding():
                pass  # renews the lease: a large archive takes its time
        self._note(missed, newest, caught_up=True)

    def _note(self, studies: Sequence[str], place: Place, *, caught_up: bool) -> None:
        with self._holding() as (session, now):
            ahead.note_arrivals(session, studies, now)
            before = ahead.caught_up_at(session)
            ahead.move_feed(
                session,
                FeedPosition(place.sequence, place.mark, now if caught_up else before),
            )

    # -- what to do about it ---------------------------------------------------

    def _look(self) -> bool:
        """Look at some studies that are due; tells whether more may be."""
        with reading(self._engine) as session:
            now = database_time(session)
            limit = min(_BATCH, self._room(session))
            due = ahead.due_arrivals(session, now, limit) if limit > 0 else ()
        if not due:
            return False
        model = self._choose_model()
        if model.demonstration and not self._warned:
            log.warning("what arrives is given to the demonstration model")
        self._warned = model.demonstration
        for arrival in due:
            try:
                self._look_at(arrival, model)
            except MetiaError as error:
                if error.code in _NOT_THE_STUDYS_FAULT:
                    raise
                self._look_again(arrival, error)
        return len(due) == limit

    def _room(self, session: Session) -> int:
        """Tell how many automatic jobs may be added without crowding anyone out."""
        if 2 * count_queued(session) >= self._settings.job_queue_limit:
            return 0
        return self._settings.zero_click_limit - ahead.count_automatic(session)

    def _look_at(self, arrival: Arrival, model: ModelIdentity) -> None:
        study = self._changes.study(arrival.archive_id)
        if study is None:
            self._settle(arrival, None)
            return
        if not study.stable:
            with self._holding() as (session, now):
                ahead.postpone_arrival(
                    session, arrival.archive_id, now + _UNSTABLE_WAIT, failed=False
                )
            return
        verdict = judge(
            self._rule,
            self._archive.series_headers(study.study_uid),
            lambda series_uid: self._changes.sender(arrival.archive_id, series_uid),
            datetime.now(UTC).date(),
        )
        if isinstance(verdict, SeriesCandidate):
            self._queue(arrival, study.study_uid, verdict, model)
        else:
            log.info("arrival left alone", reason=verdict)
            self._settle(arrival, None)

    def _queue(
        self,
        arrival: Arrival,
        study_uid: str,
        chosen: SeriesCandidate,
        model: ModelIdentity,
    ) -> None:
        """Queue the job, note who asked for it, and be done with the arrival."""
        decided = canonical_hash(
            [chosen.series_uid, chosen.instance_count, model.sha256]
        )
        with self._holding() as (session, now):
            ahead.settle_arrival(session, arrival.archive_id, decided)
            if arrival.decided == decided or ahead.is_taken_care_of(
                session, study_uid, model.name, model.sha256
            ):
                return
            # The same request as that of a press: whoever presses gets this job.
            job, created = enqueue(
                session,
                JobRequest(
                    study_uid,
                    model_name=model.name,
                    priority=ahead.AUTOMATIC_PRIORITY,
                    queue=ahead.AUTOMATIC_QUEUE,
                    requested_by=ahead.AUTOMATIC,
                ),
                max_attempts=self._settings.job_max_attempts,
                now=now,
            )
            if created:
                audit.append(
                    session,
                    actor=None,
                    action="job-submit",
                    subject=f"job:{job.id}",
                    details={"requested_by": ahead.AUTOMATIC},
                )
        log.info("job queued by rule", job=job.id, new=created)

    def _look_again(self, arrival: Arrival, error: MetiaError) -> None:
        """Try a study again later that could not be looked at, but not for ever."""
        if error.code == "study-not-found" or arrival.tries + 1 >= _TRIES:
            log.warning("arrival given up", code=error.code)
            self._settle(arrival, None)
            return
        wait_s = min(_FIRST_RETRY_S * 2.0**arrival.tries, _LONGEST_RETRY_S)
        with self._holding() as (session, now):
            ahead.postpone_arrival(
                session,
                arrival.archive_id,
                now + timedelta(seconds=wait_s),
                failed=True,
            )

    def _settle(self, arrival: Arrival, decided: str | None) -> None:
        with self._holding() as (session, _):
            ahead.settle_arrival(session, arrival.archive_id, decided)

    # -- who does it -----------------------------------------------------------

    @contextmanager
    def _holding(self) -> Iterator[tuple[Session, datetime]]:
        """Give a transaction that fails where another process has taken over."""
        with transaction(self._engine) as session:
            now = database_time(session)
            ahead.hold_feed(session, self._owner, lease=self._lease, now=now)
            yield session, now

    def _leave(self) -> None:
        try:
            with transaction(self._engine) as session:
                ahead.leave_feed(session, self._owner)
        except MetiaError as error:
            log.warning("arrivals left to their lease", code=error.code)

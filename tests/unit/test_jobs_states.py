"""Presses, claims, deaths, waits and cancellations in any order keep the queue's rules.

Hypothesis plays users, workers and the clock against the real queue on SQLite; a plain
model says what each call must do.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from db import schema
from db.engine import Session, make_engine
from db.results import record_result
from errors import MetiaError
from segmentation.jobs import Fence, Job, JobQueue
from settings import Settings
from tests.contract.sample_rows import add_study, make_record

LEASE_S = 30.0
ENDED = {"succeeded", "failed", "cancelled"}


@dataclass
class Known:
    """What the model knows of a job."""

    uid: str
    state: str = "queued"
    attempt: int = 0
    deaths: int = 0
    cancel: bool = False
    lease_until: datetime | None = None
    ended: Job | None = field(default=None)


class QueueMachine(RuleBasedStateMachine):
    fences = Bundle("fences")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "metia.sqlite"
        self.engine = make_engine(f"sqlite:///{path}")
        schema.upgrade(self.engine)
        add_study(self.engine)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.queue = JobQueue(
            self.engine,
            Settings(data_dir=Path(self.folder.name), job_lease_s=LEASE_S),
            self.clock,
        )
        self.known: dict[str, Known] = {}
        self.owners = 0

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.dispose()
            self.folder.cleanup()

    def clock(self, _session: Session) -> datetime:
        return self.now

    @rule(uid=st.sampled_from(["1.1", "1.2", "1.3"]))
    def press(self, uid: str) -> None:
        # No two of one moment: ids are random and would decide who comes first.
        self.now += timedelta(milliseconds=1)
        active = [
            job_id
            for job_id, known in self.known.items()
            if known.uid == uid and known.state not in ENDED and not known.cancel
        ]
        job, created = self.queue.submit(uid)
        assert created == (not active)
        if created:
            self.known[job.id] = Known(uid)
        else:
            assert [job.id] == active

    @rule(seconds=st.sampled_from([0.1, 1.0, LEASE_S - 1, LEASE_S + 1, 90.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(target=fences)
    def claim(self) -> object:
        self.owners += 1
        owner = f"worker-{self.owners}"
        job = self.queue.claim(owner)
        for known in self.known.values():
            if known.lease_until is not None and known.lease_until < self.now:
                known.deaths += 1
                known.lease_until = None
                known.state = "queued"
                if known.deaths == 3:
                    known.state = "failed"
                if known.cancel:
                    known.state = "cancelled"
        if job is None:
            return multiple()
        known = self.known[job.id]
        assert known.state == "queued"
        assert not known.cancel
        known.state = "running"
        known.attempt += 1
        known.lease_until = self.now + timedelta(seconds=LEASE_S)
        return Fence(job.id, known.attempt, owner)

    def holds(self, fence: Fence) -> bool:
        known = self.known[fence.job_id]
        return known.state == "running" and known.attempt == fence.attempt

    @rule(fence=fences, progress=st.floats(0, 1))
    def beat(self, fence: Fence, progress: float) -> None:
        known = self.known[fence.job_id]
        if not self.holds(fence):
            with pytest.raises(MetiaError, match="job-superseded"):
                self.queue.heartbeat(fence.job_id, fence.attempt, fence.owner)
            return
        cancel = self.queue.heartbeat(
            fence.job_id, fence.attempt, fence.owner, progress=progress
        )
        assert cancel == known.cancel
        known.lease_until = self.now + timedelta(seconds=LEASE_S)

    @rule(
        fence=consumes(fences),
        how=st.sampled_from(["complete", "fail", "retry", "release"]),
    )
    def end(self, fence: Fence, how: str) -> None:
        known = self.known[fence.job_id]

        def act() -> None:
            if how == "complete":
                self.queue.complete(fence, lambda s: self.store(s, fence.job_id))
            elif how == "fail":
                self.queue.fail(fence, MetiaError("internal", "x"))
            elif how == "retry":
                self.queue.retry(fence, MetiaError("archive-unavailable", "x"))
            else:
                self.queue.release(fence)

        if not self.holds(fence):
            with pytest.raises(MetiaError, match="job-superseded"):
                act()
            return
        act()
        known.lease_until = None
        back = "cancelled" if known.cancel else "queued"
        known.state = {"complete": "succeeded", "fail": "failed"}.get(how, back)

    def store(self, session: Session, job_id: str) -> str:
        return record_result(session, make_record(job_id, lesions=0))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if not self.known:
            return
        job_id = data.draw(st.sampled_from(list(self.known)))
        known = self.known[job_id]
        if known.state in {"succeeded", "failed"}:
            with pytest.raises(MetiaError, match="conflict"):
                self.queue.cancel(job_id)
            return
        self.queue.cancel(job_id)
        orphan = known.lease_until is not None and known.lease_until < self.now
        known.cancel = True
        if known.state == "queued" or orphan:
            known.state = "cancelled"
            known.lease_until = None

    @invariant()
    def database_agrees(self) -> None:
        if not hasattr(self, "known"):
            return
        jobs = {job.id: job for job in self.queue.list(limit=1000).jobs}
        assert jobs.keys() == self.known.keys()
        for job_id, known in self.known.items():
            job = jobs[job_id]
            assert (job.state, job.attempt, job.deaths, job.cancel_requested) == (
                known.state,
                known.attempt,
                known.deaths,
                known.cancel,
            )
            assert job.lease_until == known.lease_until
            if known.ended is not None:
                assert job == known.ended  # what has ended never changes
            if job.state in ENDED:
                known.ended = job


QueueMachine.TestCase.settings = hypothesis_settings(
    max_examples=25, stateful_step_count=40, deadline=None
)
TestQueue = QueueMachine.TestCase

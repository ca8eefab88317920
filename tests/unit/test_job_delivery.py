"""How jobs are brought to workers: order, misses, silence, settings; no broker."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery.exceptions import Reject
from pydantic import SecretStr

from db import schema
from db.engine import Engine, make_engine
from errors import MetiaError
from segmentation.delivery import notice as notice_module
from segmentation.delivery.broker import broker_priority, broker_queue
from segmentation.delivery.consumer import CeleryConsumer
from segmentation.delivery.notice import Notice, make_notice
from segmentation.delivery.source import Polling, make_source
from segmentation.delivery.sweeper import Sweeper
from segmentation.jobs import Job, JobQueue
from settings import ROOT, Settings


class FakeLine:
    """A broker that counts and keeps what it is told; `down` makes it fail."""

    def __init__(self) -> None:
        self.told: list[Job] = []
        self.waiting: dict[str, int] = {}
        self.down = False
        self.opened = 0

    @contextmanager
    def line(self) -> Iterator[FakeLine]:
        self.opened += 1
        self._check()
        yield self

    def publish(self, job: Job) -> None:
        self._check()
        self.told.append(job)
        self.waiting[job.queue] = self.waiting.get(job.queue, 0) + 1

    def depth(self, queue: str) -> int:
        self._check()
        return self.waiting.get(queue, 0)

    def _check(self) -> None:
        if self.down:
            raise MetiaError("broker-unavailable", "Away.")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path / 'metia.sqlite'}")
    schema.upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path, job_lease_s=0.6, job_heartbeat_s=0.1, worker_poll_s=0.01
    )


@pytest.fixture
def queue(engine: Engine, settings: Settings) -> JobQueue:
    return JobQueue(engine, settings)


@pytest.fixture
def broker() -> FakeLine:
    return FakeLine()


@pytest.fixture
def sweeper(queue: JobQueue, broker: FakeLine, settings: Settings) -> Sweeper:
    return Sweeper(queue, broker, settings)


# -- the sweeper ---------------------------------------------------------------


def test_sweeper_tells_once_and_in_order(
    queue: JobQueue, broker: FakeLine, sweeper: Sweeper
) -> None:
    queue.submit("1.1")
    queue.submit("1.2", priority=5)
    queue.submit("1.3", queue="train")  # not ours
    assert sweeper.sweep(broker) == 2
    assert sweeper.sweep(broker) == 0
    assert [job.study_uid for job in broker.told] == ["1.2", "1.1"]


def test_job_left_in_an_empty_broker_is_told_of_again(
    queue: JobQueue, broker: FakeLine, sweeper: Sweeper
) -> None:
    queue.submit("1.1")
    sweeper.sweep(broker)
    threading.Event().wait(0.15)  # longer than a message travels
    assert sweeper.sweep(broker) == 0  # it may still lie there
    broker.waiting.clear()
    assert sweeper.sweep(broker) == 1


def test_job_that_later_ones_overtook_is_told_of_again(
    queue: JobQueue, broker: FakeLine, sweeper: Sweeper
) -> None:
    queue.submit("1.1")
    sweeper.sweep(broker)
    later, _ = queue.submit("1.2")
    sweeper.sweep(broker)
    threading.Event().wait(0.15)  # longer than a message travels
    assert sweeper.sweep(broker) == 0
    assert queue.claim_one("me", later.id)
    assert broker.depth("gpu") > 0
    assert sweeper.sweep(broker) == 1
    assert [job.study_uid for job in broker.told] == ["1.1", "1.2", "1.1"]


def test_sweeper_is_bounded(
    queue: JobQueue, broker: FakeLine, settings: Settings
) -> None:
    # "Just now" is a part of the lease: 230 jobs take longer than that of the others.
    unhurried = settings.model_copy(update={"job_lease_s": 60.0})
    sweeper = Sweeper(queue, broker, unhurried)
    for number in range(230):
        queue.submit(f"1.{number + 10}")
    assert [sweeper.sweep(broker) for _ in range(3)] == [200, 0, 0]
    broker.waiting["gpu"] = 0
    # Those told of just now still lie at the front.
    assert sweeper.sweep(broker) == 0


def test_sweeper_gives_back_the_jobs_of_the_dead(
    queue: JobQueue, broker: FakeLine, sweeper: Sweeper, settings: Settings
) -> None:
    queue.submit("1.1")
    assert queue.claim("dead")
    assert sweeper.sweep(broker) == 0
    threading.Event().wait(settings.job_lease_s + 0.05)
    assert sweeper.sweep(broker) == 1


def test_nothing_is_noted_as_told_while_the_broker_is_away(
    queue: JobQueue, broker: FakeLine, sweeper: Sweeper
) -> None:
    queue.submit("1.1")
    broker.down = True
    with pytest.raises(MetiaError, match="broker-unavailable"):
        sweeper.sweep(broker)
    broker.down = False
    assert sweeper.sweep(broker) == 1


def test_sweeper_outlives_a_broker_and_a_database_that_fail(
    queue: JobQueue,
    broker: FakeLine,
    sweeper: Sweeper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker.down = True
    stopping = threading.Event()
    thread = threading.Thread(target=sweeper.run, args=(stopping,))
    thread.start()
    queue.submit("1.1")
    threading.Event().wait(0.2)
    monkeypatch.setattr(JobQueue, "recover", lambda _: 1 / 0)
    broker.down = False
    threading.Event().wait(0.2)
    monkeypatch.undo()
    deadline = threading.Event()
    for _ in range(100):
        if broker.told:
            break
        deadline.wait(0.05)
    stopping.set()
    thread.join(5)
    assert not thread.is_alive()
    assert [job.study_uid for job in broker.told] == ["1.1"]
    assert broker.opened < 60


# -- the notice ----------------------------------------------------------------


def test_silent_broker_is_asked_once_in_a_while(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(notice_module.time, "monotonic", lambda: now[0])
    job, _ = queue.submit("1.1")
    asked: list[Job] = []
    down = True

    def publish(jobs: list[Job]) -> None:
        asked.extend(jobs)
        if down:
            raise MetiaError("broker-unavailable", "Away.")

    tell = Notice(publish)
    for _ in range(5):
        tell(job)
    assert len(asked) == 1
    now[0] += 9
    tell(job)
    assert len(asked) == 1
    now[0] += 2
    down = False
    tell(job)
    tell(job)
    assert len(asked) == 3


# -- what a worker does with a message ------------------------------------------


class FakeDesk:
    """A worker that notes what it is given."""

    owner = "me"

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.worked: list[str] = []

    def work(self, job: Job) -> None:
        self.worked.append(job.id)


@pytest.fixture
def consumer(queue: JobQueue, settings: Settings) -> CeleryConsumer:
    url = SecretStr("redis://127.0.0.1:1/0")
    return CeleryConsumer(queue, settings.model_copy(update={"broker_url": url}))


def test_message_is_worked_off_once(queue: JobQueue, consumer: CeleryConsumer) -> None:
    desk = FakeDesk()
    job, _ = queue.submit("1.1")
    for message in (job.id, job.id, "0" * 32, "", "\0", None, {"a": 1}, 7):
        consumer._deliver(desk, message)
    assert desk.worked == [job.id]
    assert queue.get(job.id).owner == "me"


def test_message_goes_back_while_the_database_is_away(
    queue: JobQueue, consumer: CeleryConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise MetiaError("database-unusable", "Away.")

    monkeypatch.setattr(JobQueue, "claim_one", away)
    desk = FakeDesk()
    with pytest.raises(Reject) as caught:
        consumer._deliver(desk, "0" * 32)
    assert caught.value.requeue


def test_message_goes_back_when_the_worker_stops(
    queue: JobQueue, consumer: CeleryConsumer
) -> None:
    desk = FakeDesk()
    desk.stopping.set()
    job, _ = queue.submit("1.1")
    with pytest.raises(Reject) as caught:
        consumer._deliver(desk, job.id)
    assert caught.value.requeue
    assert queue.get(job.id).state == "queued"


# -- what a message looks like -------------------------------------------------


def test_priorities_keep_their_order_on_either_broker() -> None:
    priorities = range(-100, 101)
    rabbitmq = [broker_priority("amqp://h", one) for one in priorities]
    redis = [broker_priority("redis://h", one) for one in priorities]
    assert rabbitmq == sorted(rabbitmq)  # high ones first
    assert redis == sorted(redis, reverse=True)  # low ones first
    assert {min(redis), min(rabbitmq)} == {0}
    assert {max(redis), max(rabbitmq)} == {9}
    # People, programs that follow up, and automatic work are told apart.
    assert len({broker_priority("amqp://h", one) for one in (10, 1, 0, -10, -50)}) == 5


def test_each_queue_has_one_in_the_broker() -> None:
    assert broker_queue("gpu").name == "metia.gpu"
    assert broker_queue("gpu").exchange.name == ""


# -- settings ------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://host", "redis", "redis://", "sqla+sqlite:///x", "memory://", "-"]
)
def test_other_brokers_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="broker_url must begin"):
        Settings(broker_url=url)  # type: ignore[arg-type]


def test_broker_may_be_named_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "broker_url"
    secret.write_text("redis://:canary@host:6379/1\n")
    monkeypatch.setenv("METIA_BROKER_URL_FILE", str(secret))
    settings = Settings()
    assert settings.broker_url.get_secret_value() == "redis://:canary@host:6379/1"
    assert "canary" not in repr(settings)


def test_source_follows_the_setting(queue: JobQueue, settings: Settings) -> None:
    assert isinstance(make_source(settings, queue), Polling)
    assert make_notice(settings) == (None, None)
    chosen = Settings(broker_url="amqp://host")  # type: ignore[arg-type]
    assert isinstance(make_source(chosen, queue), CeleryConsumer)


@pytest.mark.parametrize("module", ["api", "segmentation.worker"])
def test_celery_is_loaded_only_where_there_is_a_broker(module: str) -> None:
    code = f"import sys, {module}; sys.exit('celery' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]

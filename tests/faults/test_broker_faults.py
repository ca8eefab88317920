"""Real Redis and RabbitMQ that restart, forget, stay away and say things twice.

Every test ends alike: each job has succeeded once, with one object and one result; none
is lost and none done twice.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from db.ahead import AUTOMATIC, AUTOMATIC_PRIORITY
from segmentation.delivery.broker import Broker
from segmentation.jobs import Job, JobQueue
from tests.broker_servers import BrokerServer, RabbitMq, free_port, reason_to_skip
from tests.faults.stage import LEASE_S, SOON_S, Stage

BROKERS = ["postgresql+redis", "postgresql+rabbitmq"]
on_brokers = pytest.mark.parametrize("backing", BROKERS)


@pytest.fixture
def server(broker: BrokerServer | None) -> Iterator[BrokerServer]:
    """The broker of the test, left running for the next whatever was done to it."""
    assert broker is not None
    yield broker
    if broker.process is None:
        broker.start()


def submit_many(stage: Stage, number: int) -> list[Job]:
    return [stage.submit(f"1.2.{n + 1000}") for n in range(number)]


@on_brokers
def test_one_message_said_five_times_at_once_is_one_run(
    stage: Stage, server: BrokerServer
) -> None:
    broker = Broker(server.url)
    for _ in range(2):
        stage.start(pause_s=0.5)
    stage.wait(lambda: len(stage.queue.workers()) == 2)
    jobs = submit_many(stage, 3)
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: broker.publish(jobs), range(5)))
    stage.wait_for_all(3)
    broker.publish(jobs)  # and once more, when they are done
    last = stage.submit("1.2.999")
    stage.wait_for(last, "succeeded")
    stage.assert_each_once([*jobs, last])


@on_brokers
def test_host_killed_in_mid_work_loses_nothing(stage: Stage) -> None:
    victim = stage.start("before predict")
    jobs = submit_many(stage, 6)
    stage.wait_for_trap()
    survivor = stage.start(pause_s=0.05)
    stage.wait(lambda: stage.queue.counts()["succeeded"] >= 1)
    stage.kill_host(victim)
    stage.wait_for_all(6)
    stage.assert_each_once(jobs, run_twice=1)
    assert survivor.poll() is None


@on_brokers
def test_broker_restarts_under_waiting_and_running_jobs(
    stage: Stage, server: BrokerServer
) -> None:
    stage.start(pause_s=1.0)
    jobs = submit_many(stage, 4)
    stage.wait(lambda: stage.queue.counts()["running"] == 1)
    server.kill()
    jobs.append(stage.submit("1.2.999"))
    server.start()
    jobs.append(stage.submit("1.2.998"))
    stage.wait_for_all(6, 60)
    stage.assert_each_once(jobs)


@on_brokers
def test_job_that_ends_while_the_broker_is_away_leaves_its_worker_working(
    stage: Stage, server: BrokerServer
) -> None:
    stage.start(pause_s=1.0)
    jobs = submit_many(stage, 1)
    stage.wait(lambda: stage.queue.counts()["running"] == 1)
    server.kill()
    stage.wait_for(jobs[0], "succeeded")
    time.sleep(0.5)  # in which the worker cannot say so
    server.start()
    jobs.append(stage.submit("1.2.999"))
    stage.wait_for_all(2, 60)
    stage.assert_each_once(jobs)


@on_brokers
def test_broker_that_forgot_everything_is_told_again(
    stage: Stage, server: BrokerServer
) -> None:
    jobs = submit_many(stage, 12)
    server.kill()
    server.wipe()
    server.start()
    for _ in range(2):
        stage.start()
    stage.wait_for_all(12, 60)
    stage.assert_each_once(jobs)


@on_brokers
def test_nobody_waits_for_a_broker_that_is_away(
    stage: Stage, server: BrokerServer
) -> None:
    server.freeze()
    began = time.monotonic()
    jobs = [stage.submit("1.2.1000")]
    assert time.monotonic() - began < 4
    began = time.monotonic()
    jobs += submit_many(stage, 20)[1:]
    assert time.monotonic() - began < 4  # and the broker was not asked again
    server.thaw()
    stage.start()
    stage.wait_for_all(20)
    stage.assert_each_once(jobs)


@on_brokers
def test_worker_waits_for_its_broker_and_can_be_stopped_meanwhile(
    stage: Stage, server: BrokerServer
) -> None:
    scheme = server.url.partition("://")[0]
    stage.use_broker(f"{scheme}://metia:canary-secret@127.0.0.1:{free_port()}/0")
    began = time.monotonic()
    job = stage.submit()
    assert time.monotonic() - began < 2
    waiting = stage.start()
    stage.wait(lambda: len(stage.queue.workers()) == 1)
    stage.wait(lambda: "sweeper cannot work" in stage.log())
    time.sleep(1)
    assert stage.queue.get(job.id).state == "queued"
    waiting.terminate()
    assert waiting.wait(SOON_S) == 0
    assert "canary-secret" not in stage.log()
    stage.use_broker(server.url)
    stage.start()
    stage.wait_for(job, "succeeded")
    stage.assert_ended_once(job)


@on_brokers
def test_what_waits_for_something_is_delivered_when_it_is_due(stage: Stage) -> None:
    job = stage.submit()
    stage.start("unavailable")
    stage.wait(lambda: stage.queue.get(job.id).retries == 1)
    put_off = stage.queue.get(job.id)
    stage.wait_for(job, "succeeded")
    stage.assert_ended_once(job)
    ended = stage.queue.get(job.id)
    assert ended.started_at is not None
    assert ended.started_at >= put_off.not_before
    assert (ended.attempt, ended.retries, ended.deaths) == (2, 1, 0)


@on_brokers
def test_higher_priority_is_delivered_first(stage: Stage) -> None:
    order = {-50: "1.2.1", -10: "1.2.2", 0: "1.2.3", 5: "1.2.5", 10: "1.2.6"}
    for priority, study_uid in order.items():
        stage.submit(study_uid, priority)
    stage.start()
    stage.wait_for_all(5)
    assert stage.runs() == [order[p] for p in sorted(order, reverse=True)]


@on_brokers
def test_automatic_job_that_a_person_presses_for_overtakes_the_others(
    stage: Stage,
) -> None:
    jobs = [
        stage.queue.submit(
            study_uid, priority=AUTOMATIC_PRIORITY, requested_by=AUTOMATIC
        )[0]
        for study_uid in ("1.2.1", "1.2.2", "1.2.4")
    ]
    stage.start(pause_s=3.0)
    stage.wait(lambda: stage.runs() == ["1.2.1"])
    pressed, new = stage.queue.submit("1.2.4", requested_by="ann")
    assert (pressed.id, new) == (jobs[2].id, False)
    stage.wait_for_all(3)
    assert stage.runs() == ["1.2.1", "1.2.4", "1.2.2"]
    stage.assert_each_once(jobs)


@on_brokers
def test_job_that_gave_way_is_delivered_again(stage: Stage) -> None:
    job = stage.submit()
    stage.start("giving way")
    stage.wait_for(job, "succeeded")
    stage.assert_ended_once(job)
    ended = stage.queue.get(job.id)
    assert (ended.attempt, ended.retries, ended.deaths) == (2, 0, 0)
    assert ended.error_code is None


@on_brokers
def test_worker_takes_its_own_queues_only(stage: Stage) -> None:
    ours, _ = stage.queue.submit("1.2.3", queue="cpu")
    other, _ = stage.queue.submit("1.2.4", queue="gpu")
    stage.start(METIA_WORKER_QUEUES="cpu,train")
    stage.wait_for(ours, "succeeded")
    time.sleep(LEASE_S)
    assert stage.queue.get(other.id).state == "queued"
    stage.start(METIA_WORKER_QUEUES="gpu")
    stage.wait_for(other, "succeeded")


@on_brokers
def test_job_that_no_broker_was_told_of_is_found(stage: Stage) -> None:
    quiet = JobQueue(stage.engine, stage.settings)  # as the command line does
    stage.start()
    stage.wait(lambda: len(stage.queue.workers()) == 1)
    job, _ = quiet.submit("1.2.3")
    assert stage.wait_for(job, "succeeded") < 5
    stage.assert_ended_once(job)


@on_brokers
def test_messages_of_strangers_are_dropped(stage: Stage, server: BrokerServer) -> None:
    job = stage.submit()
    broker = Broker(server.url)
    nonsense: list[object] = ["", "\0", "x" * 10_000, {"a": [1]}, None, 7, "0" * 32]
    broker.publish([replace(job, id=one) for one in nonsense])  # type: ignore[arg-type]
    stage.start()
    stage.wait_for(job, "succeeded")
    last = stage.submit("1.2.4")
    stage.wait_for(last, "succeeded")
    stage.assert_each_once([job, last])


@on_brokers
def test_worker_frozen_before_it_claims_keeps_nobody_waiting(stage: Stage) -> None:
    sleeper = stage.start()
    stage.wait(lambda: len(stage.queue.workers()) == 1)
    time.sleep(0.5)  # until it listens to the broker
    os.killpg(sleeper.pid, signal.SIGSTOP)
    jobs = submit_many(stage, 3)  # the broker may give it one of these
    stage.start()
    stage.wait_for_all(3)
    os.killpg(sleeper.pid, signal.SIGCONT)
    last = stage.submit("1.2.999")
    stage.wait_for(last, "succeeded")
    stage.assert_each_once([*jobs, last])


@pytest.mark.parametrize("backing", ["postgresql"])
def test_job_may_take_longer_than_rabbitmq_waits_for_an_answer(stage: Stage) -> None:
    if reason := reason_to_skip("rabbitmq"):
        pytest.skip(reason)
    # Half an hour and a minute, if it were not for this.
    impatient = RabbitMq(consumer_timeout=500, channel_tick_interval=500)
    try:
        impatient.start()
        stage.use_broker(impatient.url)
        worker = stage.start(pause_s=2.5)
        jobs = submit_many(stage, 2)
        stage.wait_for_all(2)
        stage.assert_each_once(jobs)
        assert worker.poll() is None
    finally:
        impatient.stop()

"""All processes live, and the service is not good: `status` and `/healthz` name what is wrong."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
import redis
from sqlalchemy import update
from structlog.testing import capture_logs

from models import Logout, NoticeMethod
from sandbox.ports import HOST, free_port
from sandbox.redis_server import RedisServer
from session_client.contract import Queue, Reason
from simulator.controls.gates import wait_until
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import make_key_older, make_older, run, told
from tests.integration.operations.doctor_rig import elsewhere
from tests.integration.outbox.propagation_rig import (
    Broker,
    by_queue,
    confirm,
    deliver,
    late_logout_of_shop_alone,
    owed,
)
from tests.integration.traffic.traffic_rig import pass_redis_time
from tests.stage import Stage, redis_client
from worker import wiring
from worker.celery_support import heartbeat
from worker.errors import BreakerOpen, NoticeUndelivered, StoreDiskFails
from worker.maintenance.last_runs import Run
from worker.monitoring.health_server import MonitorServer, sources
from worker.operations import troubles
from worker.outbox import leases
from worker.storage import disk_notes
from worker.storage.disk_notes import DiskNotes
from worker.tasks import maintenance
from worker.wiring import Services

Plant = Callable[[Stage], object]

WORKER: Final = {
    "hostname": "worker@here",
    "queues": sorted(queue.value for queue in Queue),
    "visibility_timeout": 180,
    "started_at": "2020-01-01T00:00:00+00:00",
}


@contextmanager
def living(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, **overrides: str
) -> Iterator[Stage]:
    """A stage with a worker that lives, and with all of beat's work done."""
    with Stage(sqlite_url, redis_url, mosaic, **overrides) as stage:
        stage.redis.set(heartbeat.key_of_this_process(), json.dumps(WORKER), ex=600)
        maintenance.sweep()
        maintenance.expire_sessions()
        maintenance.purge_history()
        yield stage


def pages(services: Services) -> dict[str, Any]:
    """What the monitor says, by path."""
    with MonitorServer("127.0.0.1", 0, {}, sources(services)) as server:
        return {path: httpx.get(server.url + path, timeout=60) for path in ("/livez", "/healthz")}


def without_ages(text: str) -> str:
    return re.sub(r"\d+ s\b", "", text)


def signed_in(stage: Stage) -> None:
    stage.add_app("shop")
    stage.registered("ada", "shop")
    stage.silent_auth("ada", "shop")


def wrong_secret(stage: Stage) -> None:
    stage.add_app("shop")
    stage.mosaic.state.add_client("client-shop", "changed at Mosaic")
    stage.registered("ada", "shop")
    stage.silent_auth("ada", "shop")


def encrypted(stage: Stage) -> None:
    stage.add_app("shop")
    stage.registered("ada", "shop")
    jwe = {"id_token": "eyJhbGciOiJSU0EtT0FFUC0yNTYifQ.a.b.c.d"}
    stage.mosaic.state.faults.add("session/authenticate", "change_answer", changes=jwe)
    stage.silent_auth("ada", "shop")


def register(stage: Stage) -> None:
    stage.add_app("shop")
    stage.remember(stage.login("ada", "shop"))


def dead_app(stage: Stage) -> UUID:
    stage.add_app("shop")
    by_queue(stage, "forum")
    notice = owed(stage)
    dead = Broker()
    dead.error = NoticeUndelivered("its queue is full")
    for _ in range(2):
        deliver(stage, notice, dead)
        stage.pass_time(minutes=4)
    return notice


def stuck_logout(stage: Stage) -> None:
    stage.add_app("shop")
    session = stage.registered("ada", "shop")
    stage.log_out("ada", "shop", session_ref=str(session))
    stage.pass_time(minutes=16)


def refused_logout(stage: Stage, app_id: str = "shop") -> None:
    """One that Mosaic fails on again and again."""
    session = stage.registered("ada", app_id)
    stage.mosaic.state.faults.add("session/logout", "status", status=503)
    stage.log_out("ada", app_id, session_ref=str(session))
    stage.tell_mosaic()
    stage.pass_time(minutes=16)


def late_logouts_of_two(stage: Stage) -> None:
    for app_id in ("shop", "forum", "desk"):
        stage.add_app(app_id)
    refused_logout(stage, "shop")
    refused_logout(stage, "forum")


def untried_logout_of_one(stage: Stage) -> None:
    stage.add_app("forum")
    stuck_logout(stage)


def late_logout_while_no_other_is_confirmed(stage: Stage) -> None:
    """Mosaic may fail on those of all apps: forum is there, and its users log out seldom."""
    stage.add_app("shop")
    stage.add_app("forum")
    refused_logout(stage)


def late_logout_that_the_breaker_holds_back(stage: Stage) -> None:
    late_logout_of_one(stage)
    error = BreakerOpen("mosaic: the breaker is open", Reason.IDP_UNAVAILABLE, 1.0)
    with stage.services.store.write() as connection:
        open_ones = update(Logout).where(Logout.closed_at.is_(None))
        connection.execute(open_ones.values(last_error=leases.error_text(error)))


def down(stage: Stage) -> None:
    signed_in(stage)
    stage.mosaic.state.faults.add("session/authenticate", "status", status=503)
    stage.silent_auth("ada", "shop")


def late_expiry(stage: Stage) -> None:
    make_older(stage, Run.EXPIRE_SESSIONS, 1000)


# What is planted, the settings it needs, the part that is wrong, and words of what to do.
FAULTS: Final[dict[str, tuple[Plant, dict[str, str], str, tuple[str, ...]]]] = {
    "a wrong client secret": (
        wrong_secret,
        {},
        "mosaic",
        (
            "wrong client id, secret or key",
            "mosaic-sessions apps set shop --client-secret-file FILE, or --client-key-file FILE",
        ),
    ),
    "a wrong token URL": (
        signed_in,
        {"mosaic_token_url": "http://no-such-host.invalid/token"},
        "mosaic",
        (
            "client token at http://no-such-host.invalid/token",
            "the name does not resolve",
            "MOSAIC_SESSIONS_MOSAIC_TOKEN_URL",
            "--token-url",
        ),
    ),
    "a wrong JWKS URL": (
        register,
        {"mosaic_jwks_url": "{url}/wrong/jwks"},
        "mosaic",
        ("jwks at {url}/wrong/jwks: 404", "MOSAIC_SESSIONS_MOSAIC_JWKS_URL", "--jwks-url"),
    ),
    "a wrong base URL": (
        signed_in,
        {"mosaic_base_url": "{url}/wrong"},
        "mosaic",
        ("{url}/wrong/cis/v1/auth/session/authenticate: 404", "--base-url"),
    ),
    "ID tokens that are encrypted": (
        encrypted,
        {},
        "mosaic",
        ("shop gets no tokens (token rejected: encrypted)", "have them signed alone"),
    ),
    "an open breaker": (
        down,
        {"breaker_failures": "1"},
        "mosaic",
        ("Mosaic does not answer", "{url}", "Nothing is lost"),
    ),
    "a stuck logout": (
        stuck_logout,
        {},
        "deliveries",
        ("1 logouts could not be told to Mosaic", "queue idp"),
    ),
    "late logouts of two apps": (
        late_logouts_of_two,
        {},
        "deliveries",
        ("2 logouts could not be told to Mosaic",),
    ),
    "a logout of one app that no worker has tried": (
        untried_logout_of_one,
        {},
        "deliveries",
        ("1 logouts could not be told to Mosaic", "queue idp"),
    ),
    "a late logout while no other app's is confirmed": (
        late_logout_while_no_other_is_confirmed,
        {},
        "deliveries",
        ("1 logouts could not be told to Mosaic",),
    ),
    "a late logout that the breaker holds back": (
        late_logout_that_the_breaker_holds_back,
        {},
        "deliveries",
        ("1 logouts could not be told to Mosaic",),
    ),
    "a late expiry": (late_expiry, {}, "sweep", ("sessions were last expired 1000 s ago", "beat")),
}


def wrong_secret_of_one(stage: Stage) -> None:
    stage.add_app("forum")
    wrong_secret(stage)


def mosaic_fails_one(stage: Stage) -> None:
    stage.add_app("forum")
    down(stage)


def late_logout_of_one(stage: Stage) -> None:
    stage.add_app("forum")
    stage.add_app("shop")
    late_logout_of_shop_alone(stage)


def wrong_secrets_of_all(stage: Stage) -> None:
    wrong_secret_of_one(stage)
    stage.mosaic.state.add_client("client-forum", "changed at Mosaic")
    stage.silent_auth("ada", "forum")


def late_purge(stage: Stage) -> None:
    make_older(stage, Run.PURGE_HISTORY, 30_000)


def full(admin: redis.Redis) -> None:
    admin.config_set("maxmemory", "1")


def replica(admin: redis.Redis) -> None:
    admin.replicaof(HOST, str(free_port()))


def without_disk(admin: redis.Redis) -> None:
    admin.config_set("dir", "/proc/self")  # where nobody can make a file
    admin.config_set("save", "1 1")
    admin.set("a key", "to be saved")
    admin.execute_command("BGSAVE")
    wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", 60)


@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (full, "it is full (maxmemory). Give it more memory"),
        (replica, "it is a replica. Name its master"),
        (without_disk, "it cannot save to its disk: is that full?"),
    ],
)
def test_a_redis_that_takes_no_writes_is_named_and_its_workers_do_not_count_as_dead(
    sqlite_url: str,
    redis_url: str,
    mosaic: SimulatorServer,
    plant: Callable[[redis.Redis], None],
    why: str,
) -> None:
    """They cannot write that they live."""
    with (
        RedisServer() as server,
        redis_client(server.url()) as admin,
        living(sqlite_url, redis_url, mosaic) as stage,
        elsewhere(stage, broker_url=server.url(), redis_url=server.url()),
    ):
        plant(admin)

        said, printed = told("status", expect=1), run("status", expect=1)
        found = pages(wiring.current())

    (problem,) = said["problems"]
    assert f"Redis reads, and takes no writes: {why}" in problem
    assert said["workers"] is None
    assert "Workers: unknown" in printed.stdout
    assert found["/livez"].json()["wrong"] == {"broker": problem}


def test_a_queue_that_another_program_has_written_over_is_named(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.redis.set("sessions", "of another program")

        (problem,) = told("status", expect=1)["problems"]

    assert problem.startswith("key sessions is no queue: another program writes to this Redis")
    assert "A living worker that takes the queue deletes it" in problem
    assert "Delete that key" not in problem


HUGE: Final = "9" * 400  # no float holds it
SAID_BY_NO_WORKER: Final = {
    "a huge clock": json.dumps(WORKER)[:-1] + f', "{heartbeat.CLOCK_AHEAD}": {HUGE}}}',
    "a huge time-out": json.dumps(WORKER | {"visibility_timeout": 0.5}).replace("0.5", HUGE),
    "depths": "[" * 100_000,
}


@pytest.mark.parametrize("said", SAID_BY_NO_WORKER.values(), ids=SAID_BY_NO_WORKER)
def test_what_another_program_says_in_a_workers_place_keeps_nobody_from_looking(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, said: str
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        stage.redis.set(f"{heartbeat.key_of_this_process()}2", said, ex=600)

        assert told("status")["problems"] == []
        checks = {one["check"]: one for one in told("doctor")}

    assert checks["visibility timeouts"]["level"] == "good"


def read_only(url: str) -> str:
    if url.startswith("sqlite"):
        return f"{url.replace('///', '///file:')}?mode=ro&uri=true"
    return f"{url}?options=-c%20default_transaction_read_only%3Don"


def test_a_read_only_database_is_named_before_the_sweep_is_late(
    store_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with (
        living(store_url, redis_url, mosaic) as stage,
        elsewhere(stage, database_url=read_only(store_url)),
    ):
        (problem,) = told("status", expect=1)["problems"]
        found = pages(wiring.current())

    assert problem.startswith("the database cannot be used: the database is read-only, a replica")
    assert found["/livez"].json()["wrong"] == {"database": problem}


@contextmanager
def without_a_right(stage: Stage) -> Iterator[None]:
    """As a user of the database who may not write the trail."""
    role = f"worker_{uuid4().hex}"
    grant = f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
    url = f"{stage.settings.store_url}?options=-c%20role%3D{role}"
    statements = (f"CREATE ROLE {role}", grant, f"REVOKE INSERT ON session_events FROM {role}")
    _run(stage, *statements)
    try:
        with elsewhere(stage, database_url=url):
            yield
    finally:
        _run(stage, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def _run(stage: Stage, *statements: str) -> None:
    with stage.services.store.write() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_a_right_that_was_taken_away_is_no_fault_of_ours_and_named(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(postgres_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        with without_a_right(stage), capture_logs() as logs:
            answer = stage.remember(stage.login("ada", "shop"))
            (problem,) = told("status", expect=1)["problems"]

    assert answer.reason == Reason.STORE_UNAVAILABLE
    assert "task_bug" not in [line["event"] for line in logs]
    (put_off,) = [line["detail"] for line in logs if line["event"] == "request_put_off"]
    assert "lacks a right on a table, which mosaic-sessions doctor names" in put_off
    assert "may not insert session_events: as the tables' owner, GRANT" in problem


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file of this process become longer than nothing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_with_what_to_do(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        with full_disk():
            status, doctor = told("status", expect=1), told("doctor", expect=1)

    (problem,) = status["problems"]
    assert "the database's disk fails, or is full" in problem
    assert "free space there" in problem
    assert "is DATABASE_URL right" not in problem
    assert problem in [one["says"] for one in doctor if one["check"] == "database"]


# PostgreSQL says so of a statement that needs another page, and of no other.
FULL: Final = """\
CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$
"""
MEETS_IT: Final = (
    "CREATE TRIGGER no_space BEFORE INSERT ON idp_sessions EXECUTE FUNCTION no_space()"
)


def test_a_full_disk_of_postgresql_that_a_worker_has_met_is_named_until_none_meets_it(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(postgres_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        _run(stage, FULL, MEETS_IT)
        before = told("status")["problems"]
        answer = stage.remember(stage.login("ada", "shop"))

        (problem,) = told("status", expect=1)["problems"]
        found = pages(stage.services)
        doctor = {one["check"]: one for one in told("doctor", expect=1)}["database"]
        make_key_older(stage, disk_notes.KEY, disk_notes.KEPT_SECONDS - 30)
        later = told("status", expect=1)["problems"]
        make_key_older(stage, disk_notes.KEY, 60)

        assert told("status")["problems"] == before == []
    assert answer.reason == Reason.STORE_UNAVAILABLE
    assert "the database's disk is full (DiskFull): free space there" in problem
    assert re.search(r"It was last met \d+ s ago: this line goes 120 s after", problem)
    assert [int(re.findall(r"last met (\d+) s", one)[0]) >= 90 for one in later] == [True]
    assert without_ages(found["/livez"].json()["wrong"]["database"]) == without_ages(problem)
    assert (doctor["level"], without_ages(doctor["says"])) == ("wrong", without_ages(problem))


def test_failures_of_the_disk_cost_a_process_few_notes_and_no_redis_keeps_them_from_being_told(
    postgres_url: str,
    redis_server: RedisServer,
    mosaic: SimulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del redis_server  # Celery's, which is asked for nothing here
    monkeypatch.setattr(disk_notes, "NOTE_EVERY_SECONDS", 600)  # however slow this machine is
    with RedisServer() as own, living(postgres_url, own.url(), mosaic) as stage:
        stage.add_app("shop")
        _run(stage, FULL, MEETS_IT)
        login = stage.login("ada", "shop")
        stage.remember(login)
        stage.redis.delete(disk_notes.KEY)
        stage.remember(login)
        noted_again = stage.redis.exists(disk_notes.KEY)
        with capture_logs() as logs:
            own.stop()
            DiskNotes(stage.services.redis).note(StoreDiskFails("its disk is full"))
            said = troubles.disk_failed(stage.services)

    assert (noted_again, said) == (0, None)
    assert [line["event"] for line in logs] == ["disk_failure_not_noted"]


def no_queue_of_one(stage: Stage) -> None:
    stage.add_app("shop")
    stage.add_app("desk", notice_method=NoticeMethod.QUEUE, notice_address="desk-notices")
    stage.redis.set("desk-notices", "of another program")


def jumped_clock(stage: Stage) -> None:
    facts = WORKER | {"hostname": "other@there", heartbeat.CLOCK_AHEAD: -3600.4}
    stage.redis.set(f"{heartbeat.key_of_this_process()}2", json.dumps(facts), ex=600)


# What keeps one app of several from being served, or none: named, and the service is good all the
# same.
WARNINGS: Final[dict[str, tuple[Plant, dict[str, str], str, tuple[str, ...]]]] = {
    "a wrong client secret": (
        wrong_secret_of_one,
        {},
        "mosaic",
        (
            "wrong client id, secret or key",
            "mosaic-sessions apps set shop --client-secret-file FILE, or --client-key-file FILE",
        ),
    ),
    "an open breaker": (
        mosaic_fails_one,
        {"breaker_failures": "1"},
        "mosaic",
        ("Mosaic fails client client-shop", "Nothing is lost", "request_put_off"),
    ),
    "a dead app": (
        dead_app,
        {},
        "deliveries",
        ("forum takes no notices", "its queue is full", "mosaic-sessions apps show forum"),
    ),
    "a late logout": (
        late_logout_of_one,
        {},
        "deliveries",
        ("1 logouts of shop could not be told", "mosaic-sessions logouts list --app shop"),
    ),
    "a key in the place of one app's queue": (
        no_queue_of_one,
        {},
        "deliveries",
        ("key desk-notices is no queue", "Delete that key (redis-cli DEL), which no worker does"),
    ),
    "a worker whose clock has jumped": (
        jumped_clock,
        {},
        "workers",
        ("the clock of worker other@there is 3600 s behind Redis'", "deadline_passed", "(NTP)"),
    ),
    "a late purge": (
        late_purge,
        {},
        "sweep",
        ("a purge last came to its end 3000", "maintenance_out_of_time", "MAINTENANCE_BATCH"),
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_one_app_suffers_from_is_a_warning_and_others_are_served(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, name: str
) -> None:
    plant, settings, part, words = WARNINGS[name]
    with living(sqlite_url, redis_url, mosaic, **settings) as stage:
        plant(stage)

        (problem,) = told("status", expect=1)["problems"]
        found = pages(stage.services)

    assert all(word in problem for word in words), problem
    said = found["/healthz"].json()
    assert (found["/healthz"].status_code, said["status"], said["wrong"]) == (200, "ok", {})
    assert said["warnings"].keys() == {part}
    assert without_ages(said["warnings"][part]) == without_ages(problem)


def test_what_all_apps_suffer_from_is_wrong_with_the_service(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        wrong_secrets_of_all(stage)

        found = pages(stage.services)["/healthz"]

    assert found.status_code == 503
    wrong = found.json()["wrong"]["mosaic"]
    assert "apps set shop" in wrong
    assert "apps set forum" in wrong


def test_a_clock_that_is_wrong_at_all_workers_is_wrong_with_the_service(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    facts = WORKER | {heartbeat.CLOCK_AHEAD: 3600.4}
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.redis.set(heartbeat.key_of_this_process(), json.dumps(facts), ex=600)

        found = pages(stage.services)["/healthz"]

    assert found.status_code == 503
    assert "the clock of worker worker@here is 3600 s ahead of" in found.json()["wrong"]["workers"]


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_named_with_what_to_do(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, name: str
) -> None:
    plant, settings, part, words = FAULTS[name]
    settings = {field: text.format(url=mosaic.url) for field, text in settings.items()}
    with living(sqlite_url, redis_url, mosaic, **settings) as stage:
        well = told("status")["problems"]
        plant(stage)

        (problem,) = told("status", expect=1)["problems"]
        printed = run("status", expect=1).stderr
        found = pages(stage.services)

    assert well == []
    assert all(word.format(url=mosaic.url) in problem for word in words), problem
    assert without_ages(printed) == without_ages(f"Problem: {problem}\n")
    assert found["/healthz"].status_code == 503
    assert found["/healthz"].json()["wrong"].keys() == {part}
    assert without_ages(found["/healthz"].json()["wrong"][part]) == without_ages(problem)
    assert found["/livez"].status_code == (503 if part == "sweep" else 200)


def test_a_secret_that_was_put_right_is_no_problem_any_more(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        wrong_secret(stage)
        told("status", expect=1)
        run("apps", "set", "shop", "--client-secret-file", "-", stdin="changed at Mosaic")

        assert told("status")["problems"] == []


def test_an_app_that_takes_its_notices_at_last_is_no_problem_any_more(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        notice = dead_app(stage)
        told("status", expect=1)
        deliver(stage, notice)
        confirm(stage, notice)

        assert told("status")["problems"] == []


def test_a_notice_that_was_not_tried_blames_no_app(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        by_queue(stage, "forum")
        owed(stage)
        stage.tell_mosaic()
        stage.pass_time(minutes=10)

        assert told("status")["problems"] == []


def test_a_logout_by_an_id_that_may_be_made_up_is_no_problem(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        stage.mosaic.state.faults.add("session/logout", "status", status=400, message="Bad request")
        stage.log_out(session_id="made up by the app")
        stage.tell_mosaic()
        stage.pass_time(days=1)

        found = told("status")

    assert found["problems"] == []
    assert (found["logouts"]["pending"], found["logouts"]["failing"]) == (1, 0)


def test_a_made_up_id_hides_no_logout_that_is_late(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        stage.log_out(session_id="made up by the app")
        refused_logout(stage)

        found = told("status", expect=1)

    assert "2 logouts could not be told to Mosaic" in found["problems"][0]
    assert (found["logouts"]["pending"], found["logouts"]["failing"]) == (2, 2)


def test_a_logout_by_an_unknown_id_that_no_worker_tries_is_wrong_with_the_service(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        stage.log_out(session_id=stage.login("ada", "shop").session_id)
        stage.pass_time(minutes=16)

        (problem,) = told("status", expect=1)["problems"]

    assert "does a worker take queue idp?" in problem


def test_a_breaker_that_waits_for_somebody_to_ask_is_no_problem(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic, breaker_failures="1") as stage:
        down(stage)
        while_open = pages(stage.services)["/healthz"]
        pass_redis_time(redis_url, 6)

        found = told("status")
        printed = run("status").stdout
        half_open = pages(stage.services)["/healthz"]

    assert (while_open.status_code, half_open.status_code) == (503, 200)
    assert found["problems"] == []
    assert "half_open" in printed

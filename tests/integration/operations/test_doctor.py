"""`mosaic-sessions doctor`: each planted fault is found under its name, with what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import redis
from sqlalchemy import Update, make_url, select, text, update

from migrations import target
from models import App, AppKey, IdpSession, NoticeMethod
from sandbox.egress_proxy import EgressProxy
from sandbox.ports import HOST, free_port
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from session_client.contract import Verdict
from simulator.controls.faults import FaultKind
from simulator.idp.endpoints import Endpoint
from simulator.server import SimulatorServer
from tests.certificates import make_certificate, server_context
from tests.disguise import Disguise
from tests.integration.backchannel.notices_rig import (
    Receiver,
    answer,
    saying,
    token_in,
)
from tests.integration.cli.cli_rig import make_older, run, told
from tests.integration.mosaic.mosaic_rig import RawServer
from tests.integration.operations.doctor_rig import (
    PASSWORD,
    WORKER,
    Plant,
    elsewhere,
    findings,
    living,
)
from tests.stage import ENCRYPTION_KEY, Stage, redis_client
from worker.celery_support import heartbeat
from worker.errors import ClientRefused, MosaicContractBroken
from worker.maintenance import last_runs
from worker.maintenance.last_runs import Run
from worker.operations import lifetime_check, mosaic_limits
from worker.operations.redis_rights import COMMANDS, refused

ROOT: Final = Path(__file__).parents[3]


def test_who_may_keep_a_session_alive_for_ever_is_named(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("desk")
        stage.add_app("forum")
        hints = findings("hint", expect=0)
        with elsewhere(stage, session_absolute_cap_seconds=86400):
            capped = findings("hint", expect=0)

    for app in ("desk", "forum"):  # each, though it is the same that is said of both
        assert "silent_by_user" in hints[f"{app}: absent users"]
        assert f"{app}: absent users" not in capped
    assert "shop: absent users" not in hints


# --- how long sessions live


def of_sessions(level: str) -> str:
    return findings(level, expect=0)["shop: sessions"]


def test_how_long_sessions_live_is_compared_with_what_mosaic_says(
    store_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    day = 24 * 3600
    with living(store_url, redis_url, mosaic) as stage:
        without_any = of_sessions("good")
        stage.registered("ada", "shop")
        as_there = of_sessions("good")
        others = {"7 days": 7 * day, "30 days": 30 * day, "2 hours": 7200, "45 minutes": 2700}
        for told_as, lives in others.items():
            mosaic.state.policy.change(session_seconds=lives)
            stage.registered(f"user of {told_as}", "shop")
            said = of_sessions("hint")
            assert f"they live {told_as} after their last use at Mosaic, and 14 days here" in said
            assert f"--session-lifetime {lives}" in said
            assert ("gone_at_idp" in said) == (lives < 14 * day)
            assert ("no logout reaches them" in said) == (lives > 14 * day)
        run("apps", "set", "shop", "--session-lifetime", "2700")
        stage.reread_apps()
        stage.registered("tom", "shop")

        assert "they live 45 minutes after their last use, as at Mosaic" in of_sessions("good")
    assert "that live is its own: nothing can be compared" in without_any
    assert "they live 14 days after their last use, as at Mosaic" in as_there


def test_the_look_at_mosaics_list_lets_no_session_live_longer(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.registered("ada", "shop")
        before = mosaic.state.live_sessions("ada")
        stage.pass_time(hours=1)

        assert "as at Mosaic" in of_sessions("good")

        assert mosaic.state.live_sessions("ada") == before


def test_a_client_that_may_not_read_sessions_is_a_hint_and_no_fault(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.registered("ada", "shop")
        mosaic.state.faults.add("sessions/list", "status", status=403)

        assert "sessions:read" in of_sessions("hint")
        assert told("status")["problems"] == []


def have_a_worker_list_sessions(stage: Stage) -> None:
    """Ask Mosaic for ada's, as a revocation does."""
    app = stage.services.apps.find("shop")
    assert app is not None
    permit = stage.services.traffic.admit_logout(app.mosaic, "any", is_untried=True)
    stage.services.mosaic.list_sessions(permit, app.mosaic, "ada", timeout_seconds=10)


def test_the_look_at_mosaics_list_hides_no_fault_that_a_worker_has_met(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.registered("ada", "shop")
        mosaic.state.faults.add("sessions/list", "status", status=403)
        with pytest.raises(ClientRefused):
            have_a_worker_list_sessions(stage)
        before = told("status", expect=1)["problems"]

        findings("hint", expect=1)

        assert before != []
        assert told("status", expect=1)["problems"] == before


@pytest.mark.parametrize(
    ("level", "fault", "words"),
    [
        ("hint", {"kind": "status", "status": 503}, "cannot be compared with Mosaic's now"),
        ("good", {"kind": "status", "status": 404, "message": "User not found"}, "the user"),
        ("good", {"kind": "status", "status": 200, "body": []}, "does not list its newest one"),
    ],
)
def test_what_mosaic_does_not_say_about_sessions_is_told_as_no_fault(  # noqa: PLR0917
    sqlite_url: str,
    redis_url: str,
    mosaic: SimulatorServer,
    level: str,
    fault: dict[str, Any],
    words: str,
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.registered("ada", "shop")
        mosaic.state.faults.add("sessions/list", **fault)

        assert words in of_sessions(level)


def test_a_list_without_ends_is_compared_with_nothing(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        login = stage.login("ada", "shop")
        stage.remember(login)
        listed = {"session_id": login.session_id, "start_time": "2026-01-01T00:00:00Z"}
        mosaic.state.faults.add("sessions/list", "status", status=200, body=[listed])

        assert "Mosaic does not say when they end" in of_sessions("good")


def test_a_session_that_is_used_meanwhile_is_compared_with_nothing(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        token = stage.signed_in("ada", "shop").browser_token
        stage.pass_time(hours=1)

        with stage.services.store.read() as connection:
            shop = connection.execute(select(App.__table__)).one()

        with (
            mosaic.state.gates.hold("sessions/list") as gate,
            stage.meanwhile(lambda: lifetime_check.check(stage.services, shop)) as said,
        ):
            gate.wait_arrived()
            assert stage.browse(token, "shop").verdict is Verdict.AUTHENTICATED
            gate.release()
            assert "in use this very moment" in said.result(60)


# --- the database


@contextmanager
def behind(stage: Stage) -> Iterator[None]:
    with stage.services.store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    yield


@contextmanager
def away(stage: Stage) -> Iterator[None]:
    url = f"postgresql+psycopg://user:{PASSWORD}@{HOST}:{free_port()}/sessions"
    with elsewhere(stage, database_url=url):
        yield


@contextmanager
def read_only(stage: Stage) -> Iterator[None]:
    path = stage.settings.store_url.removeprefix("sqlite:///")
    with elsewhere(stage, database_url=f"sqlite:///file:{path}?mode=ro&uri=true"):
        yield


@contextmanager
def other_keys(stage: Stage) -> Iterator[None]:
    with elsewhere(stage, encryption_keys=f"k2:{ENCRYPTION_KEY}"):
        yield


# --- Redis


@contextmanager
def redis_of(stage: Stage, **how: Any) -> Iterator[redis.Redis]:
    """Another broker, which the doctor is to look at."""
    with (
        RedisServer(**how) as server,
        redis_client(server.url()) as admin,
        elsewhere(stage, broker_url=server.url(), redis_url=stage.settings.cache_url),
    ):
        yield admin


@contextmanager
def evicting(stage: Stage) -> Iterator[None]:
    with redis_of(stage, maxmemory_policy="allkeys-lru"):
        yield


@contextmanager
def full(stage: Stage) -> Iterator[None]:
    with redis_of(stage) as admin:
        admin.config_set("maxmemory", "1")
        yield


@contextmanager
def replica(stage: Stage) -> Iterator[None]:
    with redis_of(stage) as admin:
        admin.replicaof(HOST, str(free_port()))
        yield


def of_another_release(chunk: bytes) -> bytes:
    return re.sub(rb"redis_version:\d", b"redis_version:5", chunk)


@contextmanager
def old_redis(stage: Stage) -> Iterator[None]:
    url = make_url(stage.settings.cache_url)
    with closing(Disguise(url.port or 0, of_another_release)) as old:
        broker = f"redis://{HOST}:{old.port}/{url.database or 0}"
        with elsewhere(stage, broker_url=broker, redis_url=stage.settings.cache_url):
            yield


@contextmanager
def no_redis(stage: Stage) -> Iterator[None]:
    url = f"redis://:{PASSWORD}@{HOST}:{free_port()}/0"
    with elsewhere(stage, broker_url=url, redis_url=stage.settings.cache_url):
        yield


@contextmanager
def unknown_certificate(stage: Stage) -> Iterator[None]:
    port = make_url(stage.settings.cache_url).port or 0
    folder = Path(stage.settings.store_url.removeprefix("sqlite:///")).parent
    context = server_context(make_certificate(folder, HOST))
    with FaultProxy(HOST, port, tls=context) as proxy:
        url = f"rediss://:{PASSWORD}@{HOST}:{proxy.port}/0"
        with elsewhere(stage, broker_url=url, redis_url=stage.settings.cache_url):
            yield


@contextmanager
def few_rights(stage: Stage) -> Iterator[None]:
    with RedisServer() as server, redis_client(server.url()) as admin:
        rules = ("on", f">{PASSWORD}", "~*", "&*", "+@all", "-evalsha", "-script", "-hset")
        admin.execute_command("ACL", "SETUSER", "app", *rules)
        url = server.url().replace("redis://", f"redis://app:{PASSWORD}@")
        with elsewhere(stage, broker_url=url, redis_url=stage.settings.cache_url):
            yield


@contextmanager
def other_timeout(stage: Stage) -> Iterator[None]:
    facts = json.dumps(WORKER | {"visibility_timeout": 60})
    stage.redis.set(heartbeat.key_of_this_process(), facts, ex=600)
    yield


@contextmanager
def no_worker(stage: Stage) -> Iterator[None]:
    stage.redis.delete(heartbeat.key_of_this_process())
    yield


def forget_runs(stage: Stage) -> None:
    stage.redis.delete(*(last_runs.key_of(run) for run in Run))


@contextmanager
def no_worker_ever(stage: Stage) -> Iterator[None]:
    forget_runs(stage)
    with no_worker(stage):
        yield


@contextmanager
def no_beat(stage: Stage) -> Iterator[None]:
    stage.redis.delete(last_runs.key_of(Run.SWEEP))
    yield


@contextmanager
def stopped_beat(stage: Stage) -> Iterator[None]:
    make_older(stage, Run.SWEEP, 90)
    yield


# --- Mosaic and apps


@contextmanager
def wrong_key_set(stage: Stage) -> Iterator[None]:
    with elsewhere(stage, mosaic_jwks_url=f"{stage.mosaic.url}/wrong/jwks"):
        yield


@contextmanager
def wrong_secret(stage: Stage) -> Iterator[None]:
    stage.mosaic.state.add_client("client-shop", "changed at Mosaic")
    yield


def based_at(stage: Stage, url: str) -> None:
    stage.add_app("forum", silent_by_user=False, base_url=url)


@contextmanager
def base_url_of_no_host(stage: Stage) -> Iterator[None]:
    based_at(stage, "http://no-such-host.invalid")
    yield


@contextmanager
def base_url_with_a_path_too_many(stage: Stage) -> Iterator[None]:
    based_at(stage, f"{stage.mosaic.url}/cis")
    yield


@contextmanager
def base_url_of_another_mosaic(stage: Stage) -> Iterator[None]:
    with SimulatorServer() as another:
        based_at(stage, another.url)
        yield


@contextmanager
def base_url_of_a_web_site(stage: Stage) -> Iterator[None]:
    with RawServer(saying(answer("200 OK", body="<html>"))) as site:
        based_at(stage, site.url)
        yield


@contextmanager
def other_clock(stage: Stage) -> Iterator[None]:
    moment = format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)
    keys = httpx.get(stage.mosaic.jwks_url).text
    said = answer("200 OK", f"Date: {moment}", body=keys)
    with RawServer(saying(said)) as ahead, elsewhere(stage, mosaic_jwks_url=ahead.url):
        yield


def told_at(stage: Stage, url: str) -> None:
    how = {"notice_method": NoticeMethod.BACKCHANNEL, "notice_address": url}
    stage.add_app("forum", silent_by_user=False, **how)


@contextmanager
def no_such_host(stage: Stage) -> Iterator[None]:
    told_at(stage, "https://no-such-host.invalid/backchannel")
    yield


@contextmanager
def nobody_there(stage: Stage) -> Iterator[None]:
    told_at(stage, f"http://{HOST}:{free_port()}/backchannel")
    yield


@contextmanager
def failing_app(stage: Stage) -> Iterator[None]:
    with Receiver(saying(answer("503 Service Unavailable"))) as receiver:
        told_at(stage, receiver.url)
        yield


@contextmanager
def unsigned(stage: Stage) -> Iterator[None]:
    with Receiver(saying(answer())) as receiver:
        told_at(stage, receiver.url)
        with elsewhere(stage, notice_signing_keys=None):
            yield


@contextmanager
def damaged_secret(stage: Stage) -> Iterator[None]:
    stage.add_app("forum", silent_by_user=False)
    _damage(stage, update(App).where(App.app_id == "forum").values(sealed_client_secret=b"gar"))
    yield


@contextmanager
def damaged_key(stage: Stage) -> Iterator[None]:
    stage.add_app("forum", silent_by_user=False)
    _damage(stage, update(AppKey).where(AppKey.app_id == "forum").values(sealed_secret=b"gar"))
    yield


def _damage(stage: Stage, statement: Update) -> None:
    with stage.services.store.write() as connection:
        connection.execute(statement)


# What is planted, under which name it is found, and words of what is said.
FAULTS: Final[dict[str, tuple[Plant, str, tuple[str, ...]]]] = {
    "a schema that is behind": (behind, "database", ("run `mosaic-sessions db upgrade`",)),
    "a database that is away": (away, "database", ("does not answer", "is DATABASE_URL right")),
    "a database that takes no writes": (read_only, "database", ("is read-only",)),
    "keys that are not the store's": (other_keys, "keys", ("key 'k1' is not in the ring",)),
    "a damaged client secret": (
        damaged_secret,
        "forum: key set",
        (
            *("apps:forum:client_secret: not a sealed", "apps set forum --client-secret-file FILE"),
            "or --client-key-file FILE where its client has a key",
        ),
    ),
    "a damaged app key": (
        damaged_key,
        "forum: key set",
        ("not a sealed value", "mosaic-sessions apps rotate-key forum", "apps retire-key forum "),
    ),
    "a Redis that evicts": (evicting, "CELERY_BROKER_URL", ("Set it to noeviction",)),
    "a Redis that is full": (full, "CELERY_BROKER_URL", ("takes no writes: it is full", "Give it")),
    "a replica": (replica, "CELERY_BROKER_URL", ("names a replica", "name its master")),
    "an old Redis": (old_redis, "CELERY_BROKER_URL", ("names a Redis 5.", "6.2 or newer")),
    "a Redis that is away": (no_redis, "CELERY_BROKER_URL", ("Connection refused", "is CELERY")),
    "a certificate nobody knows": (
        unknown_certificate,
        "CELERY_BROKER_URL",
        ("its certificate is not accepted",),
    ),
    "a user with few rights": (
        few_rights,
        "CELERY_BROKER_URL rights",
        ("our user may not use evalsha, script|load, hset:", "docs/operations.md"),
    ),
    "a peer with another time-out": (other_timeout, "visibility timeouts", ("worker@here", "60 s")),
    "no worker": (no_worker, "workers", ("no worker is alive: start one",)),
    "no worker ever": (
        no_worker_ever,
        "sweep",
        ("there was no sweep", "no session was expired", "when beat runs, and none is alive"),
    ),
    "no beat": (no_beat, "sweep", ("there was no sweep: does beat run",)),
    "a beat that stopped": (stopped_beat, "sweep", ("the last sweep was 9", "does beat run")),
    "a wrong key set": (wrong_key_set, "shop: key set", ("/wrong/jwks: 404", "--jwks-url")),
    "a wrong client secret": (
        *(wrong_secret, "shop: client"),
        ("--client-secret-file", "--client-key-file"),
    ),
    "a base URL of no host": (
        base_url_of_no_host,
        "forum: base URL",
        (
            *("session/logout at http://no-such-host.invalid/cis", "the name does not resolve"),
            *("MOSAIC_SESSIONS_MOSAIC_BASE_URL", "apps set --base-url"),
        ),
    ),
    "a base URL with a path too many": (
        base_url_with_a_path_too_many,
        "forum: base URL",
        ("/cis/cis/v1/auth/session/logout: 404", "--base-url"),
    ),
    "a base URL of another Mosaic": (
        base_url_of_another_mosaic,
        "forum: base URL",
        ("401", "another Mosaic than the one that its token is of", "--base-url"),
    ),
    "a base URL of a web site": (
        base_url_of_a_web_site,
        "forum: base URL",
        ("a page, not an answer", "--base-url"),
    ),
    "a clock that is not Mosaic's": (other_clock, "shop: key set", ("apart", "(NTP)")),
    "a notice address of no host": (
        no_such_host,
        "forum: notices",
        ("not resolved", "apps show"),
    ),
    "a notice address of nobody": (
        nobody_there,
        "forum: notices",
        ("refused", "apps show"),
    ),
    "an app that fails": (failing_app, "forum: notices", ("its address answers 503",)),
    "notices that cannot be signed": (
        unsigned,
        "forum: notices",
        ("none can be signed", "MOSAIC_SESSIONS_NOTICE_SIGNING_KEYS"),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_its_name(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, name: str
) -> None:
    plant, check, words = FAULTS[name]
    with living(sqlite_url, redis_url, mosaic) as stage, plant(stage):
        found = findings("wrong", expect=1)
        printed = run("doctor", expect=1).stdout

    assert check in found
    assert all(word in found[check] for word in words), found[check]
    assert PASSWORD not in printed
    lines = [line for line in printed.splitlines() if line.startswith(f"wrong  {check}: ")]
    assert len(lines) == 1


def test_what_is_away_is_told_once_and_not_by_each_check_that_needs_it(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        with away(stage):
            without_database = findings("wrong", expect=1)
        with redis_of(stage) as admin:
            admin.shutdown(nosave=True)
            without_broker = findings("wrong", expect=1)
        gone = f"redis://{HOST}:{free_port()}/0"
        with elsewhere(stage, broker_url=gone, redis_url=None):
            without_redis = findings("wrong", expect=1)

    assert list(without_database) == ["database"]
    assert list(without_broker) == ["CELERY_BROKER_URL", "CELERY_BROKER_URL rights"]
    assert list(without_redis) == ["CELERY_BROKER_URL", "CELERY_BROKER_URL rights"]


def test_what_is_wrong_with_an_app_is_told_once_and_not_as_a_fault_that_was_noted_as_well(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage, wrong_secret(stage):
        found = findings("wrong", expect=1)

    assert list(found) == ["shop: client"]


@pytest.mark.parametrize(
    ("plant", "is_doubted"), [(base_url_with_a_path_too_many, False), (base_url_of_no_host, True)]
)
def test_the_way_to_mosaic_is_not_doubted_where_an_answer_came_by_it(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, plant: Plant, *, is_doubted: bool
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage, plant(stage):
        said = findings("wrong", expect=1)["forum: base URL"]

    assert said.endswith("May this machine get there?") is is_doubted


def test_all_is_good_where_nothing_is_wrong(
    store_url: str, redis_url: str, mosaic: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.lower(), raising=False)
    with living(store_url, redis_url, mosaic) as stage:
        queue = {"notice_method": NoticeMethod.QUEUE, "notice_address": "desk-notices"}
        stage.add_app("desk", silent_by_user=False, **queue)
        with Receiver(saying(answer("405 Method Not Allowed"))) as receiver:
            told_at(stage, receiver.url)
            found = told("doctor")

    assert {one["level"] for one in found} == {"good"}
    checks = [one["check"] for one in found]
    for check in ("database", "database connection", "database clock", "keys", "proxies"):
        assert check in checks
    assert "desk: notices" in checks


def test_what_can_not_be_asked_without_a_client_token_is_left_out(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.registered("ada", "shop")
        with wrong_secret(stage):
            refused = told("doctor", expect=1)
        mosaic.state.add_client("client-shop", "secret-of-shop")
        asked = {one["check"] for one in told("doctor")}

    assert [one["check"] for one in refused if one["level"] != "good"] == ["shop: client"]
    left_out = asked - {one["check"] for one in refused} - {"mosaic"}
    assert left_out == {"shop: base URL", "shop: sessions"}


BASE_URLS: Final = (
    base_url_of_no_host,
    base_url_with_a_path_too_many,
    base_url_of_another_mosaic,
    base_url_of_a_web_site,
)


@pytest.mark.parametrize("plant", BASE_URLS)
def test_at_a_base_url_that_is_wrong_nothing_more_is_asked(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, plant: Plant
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.registered("ada", "shop")
        with plant(stage):
            with stage.services.store.write() as connection:
                connection.execute(update(IdpSession).values(registered_by="forum"))
            found = told("doctor", expect=1)

    assert [one["check"] for one in found if one["level"] != "good"] == ["forum: base URL"]


def test_a_list_of_sessions_that_cannot_be_read_is_told_once_with_what_to_do(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.registered("ada", "shop")
        mosaic.state.faults.add("sessions/list", "status", status=410)
        found = findings("wrong", expect=1)

    assert list(found) == ["shop: sessions"]
    assert "410 no such path" in found["shop: sessions"]
    assert "MOSAIC_SESSIONS_MOSAIC_BASE_URL" in found["shop: sessions"]


def test_the_base_url_is_asked_once_for_what_changes_nothing_at_mosaic(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.registered("ada", "shop")
        before = mosaic.state.live_sessions()
        found = findings("good", expect=0)

        assert found["shop: base URL"] == mosaic.url
        assert mosaic.state.calls.count(Endpoint.SESSION_LOGOUT) == 1
        assert mosaic.state.live_sessions() == before


def test_who_looks_again_and_again_keeps_no_logout_from_mosaic(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with (
        living(sqlite_url, redis_url, mosaic, breaker_failures="2") as stage,
        base_url_of_no_host(stage),
    ):
        levels = {one["level"] for _ in range(4) for one in told_of_forum()}
        breakers = mosaic_limits.traffic_state(stage.services).breakers

    assert levels == {"wrong"}
    assert [one for one in breakers if one.state != "closed"] == []


def told_of_forum() -> list[dict[str, Any]]:
    return [one for one in told("doctor", expect=1) if one["check"] == "forum: base URL"]


def wrong_base_url(stage: Stage) -> AbstractContextManager[None]:
    return elsewhere(stage, mosaic_base_url=f"{stage.mosaic.url}/cis")


@contextmanager
def no_list_of_sessions(stage: Stage) -> Iterator[None]:
    """As a worker has met it: what only the doctor asks for is no fault."""
    stage.mosaic.state.faults.add("sessions/list", "status", status=410)
    with pytest.raises(MosaicContractBroken):
        have_a_worker_list_sessions(stage)
    yield


@pytest.mark.parametrize("plant", [wrong_base_url, no_list_of_sessions])
def test_what_works_again_is_not_told_as_a_fault_that_another_process_has_noted(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, plant: Plant
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        stage.registered("ada", "shop")
        with plant(stage):
            findings("wrong", expect=1)
            noted = stage.services.mosaic.faults.present()
        mosaic.state.faults.clear()
        with elsewhere(stage):  # and none that has seen it fail
            mended = findings("wrong", expect=0)

    assert len(noted) == 1
    assert mended == {}


def test_a_base_url_that_may_not_be_asked_now_is_a_hint(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic, breaker_failures="1") as stage:
        mosaic.state.faults.add(Endpoint.SESSION_LOGOUT, FaultKind.STATUS, status=429)
        paused = findings("hint", expect=0)["shop: base URL"]
        asked = mosaic.state.calls.count(Endpoint.SESSION_LOGOUT)
        still = findings("hint", expect=0)["shop: base URL"]

        assert "429 rate limited. Look again in " in paused
        assert "it asked us to wait. Look again in " in still
        assert mosaic.state.calls.count(Endpoint.SESSION_LOGOUT) == asked == 1
        assert stage.sessions() == []


def test_a_redis_that_is_nearly_full_is_a_hint(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage, redis_of(stage) as admin:
        admin.config_set("maxmemory", int(1.2 * admin.info("memory")["used_memory"]))

        hint = findings("hint", expect=0)["CELERY_BROKER_URL"]

    assert "% of its memory (maxmemory) is used" in hint
    assert "no app is answered: give it more" in hint


def test_a_full_redis_of_caches_that_makes_room_by_itself_is_good(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with (
        living(sqlite_url, redis_url, mosaic) as stage,
        RedisServer(maxmemory_policy="volatile-ttl") as server,
        redis_client(server.url()) as admin,
        elsewhere(stage, redis_url=server.url()),
    ):
        admin.config_set("maxmemory", int(1.2 * admin.info("memory")["used_memory"]))

        good = findings("good", expect=1)  # no worker says there that it lives

    assert "REDIS_URL" in good


def test_workers_of_another_release_are_a_hint(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        earlier = {name: fact for name, fact in WORKER.items() if name != "schema"}
        key = heartbeat.key_of_this_process()
        stage.redis.set(f"{key}2", json.dumps(WORKER | {"hostname": "old@b", "schema": "0009"}))
        stage.redis.set(f"{key}3", json.dumps(earlier | {"hostname": "older@c"}))

        hint = findings("hint", expect=0)["releases"]

    assert f"another schema than {target.head()}: old@b (0009), older@c (which does not" in hint
    assert "worker@here" not in hint


def test_when_beats_work_was_done_is_said_and_of_a_worker_just_started_that_none_is_due(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic) as stage:
        done = findings("good", expect=0)["sweep"]
        forget_runs(stage)
        young = json.dumps(WORKER | {"started_at": stage.now().isoformat()})
        stage.redis.set(heartbeat.key_of_this_process(), young, ex=600)
        not_yet = findings("hint", expect=0)["sweep"]

    assert re.fullmatch(
        r"the last sweep was \d+ s ago, sessions were last expired \d+ s ago,"
        r" a purge last came to its end \d+ s ago",
        done,
    )
    assert not_yet.startswith("there was no sweep, no session was expired, no purge has come to")
    assert "the workers have just begun" in not_yet


def test_a_database_without_a_table_is_not_blamed_for_keys_that_nobody_rotates(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, tmp_path: Path
) -> None:
    with (
        living(sqlite_url, redis_url, mosaic) as stage,
        elsewhere(stage, database_url=f"sqlite:///{tmp_path / 'empty.db'}"),
    ):
        found = findings("wrong", expect=1)

    assert "the database is at nothing" in found["database"]
    assert "key rotation" not in found


def test_a_signed_notice_is_sent_where_it_is_asked_for(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with (
        living(sqlite_url, redis_url, mosaic) as stage,
        Receiver(saying(answer())) as receiver,
    ):
        told_at(stage, receiver.url)
        findings("good", expect=0)
        asked = len(receiver.requests)
        tested = findings_with_notice("forum")
        sent = receiver.requests[-1]
        queue = {"notice_method": NoticeMethod.QUEUE, "notice_address": "desk-notices"}
        stage.add_app("desk", silent_by_user=False, **queue)
        by_queue = findings_with_notice("desk", expect=1)

    assert asked == 1
    assert receiver.requests[0].startswith(b"HEAD ")
    assert "took a signed notice" in tested["forum: test notice"]
    assert token_in(sent).count(".") == 2
    assert "set-notice desk --notice-url" in by_queue["desk: test notice"]


def findings_with_notice(app: str, expect: int = 0) -> dict[str, str]:
    found = told("doctor", "--test-notice", app, expect=expect)
    return {one["check"]: one["says"] for one in found}


def test_a_database_whose_clock_is_another_is_told(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(postgres_url, redis_url, mosaic) as stage:
        stage.pass_time(days=20)
        with elsewhere(stage, guard_clock_seconds=60.0):
            found = findings("wrong", expect=1)

    assert "apart" in found["database clock"]


# --- what may be meant


def by_a_pooler(chunk: bytes) -> bytes:
    """Say that another process serves the session, as a pooler does."""
    head, key, rest = chunk.partition(b"K\x00\x00\x00\x0c")  # BackendKeyData
    return head + key + b"\x00\x00\x00\x07" + rest[4:] if key else chunk


def test_a_connection_pooler_is_named(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    url = make_url(postgres_url)
    with (
        living(postgres_url, redis_url, mosaic) as stage,
        closing(Disguise(url.port or 5432, by_a_pooler)) as pooler,
        elsewhere(
            stage,
            database_url=url.set(port=pooler.port).render_as_string(hide_password=False),
        ),
    ):
        found = findings("good", expect=0)

    assert found["database connection"].startswith("by a connection pooler")


def test_a_proxy_in_the_environment_is_a_hint(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PASSWORD}@proxy:3128")
    with living(sqlite_url, redis_url, mosaic):
        printed = run("doctor").stdout

    assert "hint   proxies: HTTPS_PROXY set, and not used" in printed
    assert "MOSAIC_SESSIONS_MOSAIC_PROXY" in printed
    assert PASSWORD not in printed


def test_a_proxy_before_mosaic_is_used_and_named(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    with (
        EgressProxy("worker", PASSWORD) as proxy,
        living(sqlite_url, redis_url, mosaic) as stage,
        elsewhere(stage, mosaic_proxy=f"http://worker:{PASSWORD}@{HOST}:{proxy.port}"),
    ):
        found = findings("good", expect=0)
        asked = list(proxy.requests)

    assert found["proxies"].startswith("MOSAIC_SESSIONS_MOSAIC_PROXY for calls to Mosaic")
    assert len(asked) >= 2
    assert PASSWORD not in str(found)


def test_before_the_first_app_that_is_a_hint(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with living(sqlite_url, redis_url, mosaic):
        run("apps", "remove", "shop")

        assert "apps add" in findings("hint", expect=0)["apps"]


# --- the rights of the worker's user


def test_the_commands_that_are_tried_are_those_that_operators_are_told_to_allow() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rules = page.partition("user session-worker on")[2].partition("```")[0].split()
    allowed = {rule[1:] for rule in rules if rule.startswith("+")}
    at_connecting = {"ping", "select", "hello", "client|setname", "client|setinfo"}

    assert set(COMMANDS) == allowed - at_connecting


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def knows_subcommands(admin: redis.Redis) -> bool:
    info: Any = admin.info("server")
    return int(info["redis_version"].partition(".")[0]) >= 7


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_that_is_refused_is_named_and_the_others_are_not(
    own_redis: RedisServer, command: str
) -> None:
    with redis_client(own_redis.url()) as admin:
        name = command if knows_subcommands(admin) else command.partition("|")[0]
        admin.flushall()
        rules = ("on", f">{PASSWORD}", "~*", "&*", "+@all", f"-{name}")
        admin.execute_command("ACL", "SETUSER", "app", "reset", *rules)
        with redis_client(own_redis.url().replace("redis://", f"redis://app:{PASSWORD}@")) as ours:
            assert refused(ours) == [command]
        left: Any = admin.keys()
        assert all(admin.ttl(key) > 0 for key in left)  # where it may not be deleted

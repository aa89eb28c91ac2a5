"""What Prometheus scrapes from real workers: right sums, no secrets, and never an error page."""

from __future__ import annotations

import math
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sandbox.ports import free_port
from sandbox.processes import ManagedProcess, poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import PREFIX, Stack
from session_client import LoginRequired, SessionClient, Unauthorized, requests
from tests.acceptance.client_rig import Apps
from tests.heard import authenticated, registered

PATIENT = 60.0
ASKED = 12
SOURCES = ("broker", "notice_queues", "redis", "database", "traffic", "maintenance")
POOLS = {"threads": ("-c", "2"), "prefork": ("-P", "processes", "-c", "2")}


class Scrape:
    """One answer of a worker."""

    def __init__(self, stack: Stack) -> None:
        port = stack.environment[f"{PREFIX}METRICS_PORT"]
        found = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENT)
        self.status, self.text = found.status_code, found.text
        self.kind = found.headers["content-type"]
        self.samples = [
            sample
            for family in text_string_to_metric_families(found.text)
            for sample in family.samples
        ]

    def get(self, name: str, **labels: str) -> float | None:
        """Return the sum of all samples with these labels; None when there is none."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == f"mosaic_sessions_{name}"
            and labels.items() <= sample.labels.items()
        ]  # fmt: skip
        return sum(found) if found else None


@dataclass
class Day:
    """What was scraped in the life of a worker."""

    first: Scrape
    busy: Scrape
    killed: Scrape | None
    later: Scrape
    cut_off: Scrape
    files: set[str]  # in which the children of the pool counted
    secrets: dict[str, str] = field(repr=False)


@pytest.fixture(scope="module", params=POOLS)
def day(request: pytest.FixtureRequest) -> Iterator[Day]:
    settings = {"metrics_port": free_port(), "log_level": "debug"}
    with RedisServer() as redis, Stack(redis=redis, settings=settings) as stack:
        stack.migrate()
        stack.environment["PROMETHEUS_MULTIPROC_DIR"] = str(stack.folder / "counts")
        apps = Apps(stack, "shop", "forum")
        stack.add_app("desk", "--notice-queue", "desk-notices")
        worker = stack.worker(*POOLS[request.param])
        first = Scrape(stack)
        secrets = sign_in(apps)
        ask_at_once(apps.clients["shop"])
        stranger(apps)
        busy = scraped_once(stack, is_idle)
        killed = kill_a_child(stack, worker) if request.param == "prefork" else None
        ask_at_once(apps.clients["shop"])
        later = scraped_once(stack, is_idle)
        apps.close()
        redis.stop()
        cut_off = scraped_once(stack, knows_that_redis_is_away)
        files = {path.name for path in stack.folder.glob("counts/*/*.db")}
        yield Day(first, busy, killed, later, cut_off, files, secrets)


def scraped_once(stack: Stack, is_as_hoped: Callable[[Scrape], bool]) -> Scrape:
    """Scrape until it is as hoped, and return that very scrape: the next may miss a source."""
    found: list[Scrape] = []

    def look() -> bool:
        found[:] = [Scrape(stack)]
        return is_as_hoped(found[0])

    poll_until(look, PATIENT)
    return found[0]


def up(scrape: Scrape) -> dict[str, float | None]:
    """Return which sources answered in time; each is believed for some seconds after."""
    return {source: scrape.get("source_up", source=source) for source in SOURCES}


def is_idle(scrape: Scrape) -> bool:
    return scrape.get("jobs_in_flight") == 0 and up(scrape) == dict.fromkeys(SOURCES, 1)


def knows_that_redis_is_away(scrape: Scrape) -> bool:
    return up(scrape) == dict.fromkeys(SOURCES, 0) | {"database": 1}


def sign_in(apps: Apps) -> dict[str, str]:
    """Let a user come and go; return what nobody may read in a scrape."""
    login = apps.login("ada-canary")
    request_id = requests.new_request_id()
    session = registered(
        apps.clients["shop"].register(
            user_id="ada-canary",
            session_id=login.session_id,
            id_token=login.id_token,
            request_id=request_id,
            timeout=PATIENT,
        )
    )
    silent = authenticated(apps.clients["forum"].silent_auth(user_id="ada-canary", timeout=PATIENT))
    apps.clients["shop"].logout(
        user_id="ada-canary", session_ref=session.session_ref, timeout=PATIENT
    )
    environment = apps.stack.environment
    return {
        "user": "ada-canary",
        "session id": login.session_id,
        "session ref": session.session_ref,
        "request id": request_id,
        "ID token": login.id_token,
        "access token": silent.tokens.access_token,
        "app key": apps.keys["shop"].partition(".")[2],
        "encryption key": environment[f"{PREFIX}ENCRYPTION_KEYS"].removeprefix("k1:"),
        "lookup key": environment[f"{PREFIX}LOOKUP_KEY"],
        "broker": apps.stack.broker_url,
    }


def ask_at_once(client: SessionClient) -> None:
    with ThreadPoolExecutor(4) as threads:
        asked = [
            threads.submit(client.silent_auth, user_id="bob", timeout=PATIENT) for _ in range(ASKED)
        ]
        assert {type(one.result()) for one in asked} == {LoginRequired}


def stranger(apps: Apps) -> None:
    client = apps.client("shop", key=apps.keys["forum"])
    with pytest.raises(Unauthorized):
        client.silent_auth(user_id="bob", timeout=PATIENT)
    client.close()


def kill_a_child(stack: Stack, worker: ManagedProcess) -> Scrape:
    before = set(worker.children())
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    poll_until(
        lambda: victim not in worker.children() and len(worker.children()) == len(before),
        PATIENT,
        what="a new child",
    )
    return Scrape(stack)


REFUSED = {"task": "sessions.silent_auth", "verdict": "login_required", "reason": "no_session"}


def test_it_is_prometheus_text_from_before_the_first_job(day: Day) -> None:
    assert day.first.status == 200
    assert day.first.kind == "text/plain; version=0.0.4; charset=utf-8"
    assert day.first.get("jobs_concurrency") == 2
    assert day.first.get("answers_total") == 0  # there, so that the first is seen


def test_answers_of_all_processes_are_added_up(day: Day) -> None:
    assert day.busy.get("answers_total", **REFUSED) == ASKED
    assert day.busy.get("answers_total", task="sessions.register", verdict="ok") == 1
    assert day.busy.get("answers_total", verdict="authenticated") == 1
    assert day.busy.get("answers_total", task="sessions.logout", verdict="ok") == 1
    assert day.busy.get("answers_total", verdict="unauthorized", reason="wrong_key") == 1


def test_a_killed_child_takes_no_count_with_it(day: Day) -> None:
    if day.killed is not None:
        assert day.killed.get("answers_total", **REFUSED) == ASKED
        assert day.killed.get("answers_total") == day.busy.get("answers_total")
    assert day.later.get("answers_total", **REFUSED) == 2 * ASKED


def test_files_are_as_many_as_places_in_the_pool_however_many_children_come(day: Day) -> None:
    kinds = ("counter", "histogram")
    # The parent shows at 0, from the start, what alert rules look at.
    places = {f"{kind}_{place}.db" for kind in kinds for place in ("parent", 0, 1)}

    assert bool(day.files) == (day.killed is not None)
    assert day.files <= places


def test_the_installations_facts_are_shown(day: Day) -> None:
    facts = day.busy
    assert [facts.get("source_up", source=s) for s in SOURCES] == [1] * len(SOURCES)
    assert facts.get("queue_depth", queue="auth") == 0
    assert facts.get("queue_oldest_age_seconds", queue="auth") == 0
    assert facts.get("deliveries_pending", delivery="logout") is not None
    assert facts.get("budget_left_ratio", budget="source", lane="logout") is not None
    assert facts.get("breaker_state", lane="auth", state="closed") == 1
    assert facts.get("breaker_state", lane="auth", state="open") == 0
    assert facts.get("last_run_age_seconds", task="sweep") == math.inf  # there is no beat


@pytest.mark.parametrize(
    "name",
    [
        *("user", "session id", "session ref", "request id", "ID token", "access token"),
        *("app key", "encryption key", "lookup key", "broker"),
    ],
)
def test_no_scrape_holds_a_secret_or_names_a_user(day: Day, name: str) -> None:
    secret = day.secrets[name]

    assert len(secret) > 8
    for scrape in (day.busy, day.later, day.cut_off):
        assert secret not in scrape.text


def test_without_redis_a_scrape_still_tells_what_is_known(day: Day) -> None:
    assert day.cut_off.status == 200
    assert day.cut_off.get("queue_depth") is None
    assert day.cut_off.get("breaker_state") is None
    assert day.cut_off.get("source_up", source="database") == 1
    assert day.cut_off.get("live_sessions") == 0
    assert day.cut_off.get("answers_total", **REFUSED) == 2 * ASKED


def test_a_port_that_is_taken_is_told_and_the_worker_works_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Stack(settings={"metrics_port": port}) as stack:
            stack.migrate()
            apps = Apps(stack, "shop")
            worker = stack.worker()

            apps.register("ada")

            line = worker.wait_for_line("metrics_not_served")
            apps.close()
            assert worker.terminate(timeout=PATIENT) == 0
    assert f'"port": {port}' in line
    assert "Address already in use" in line
    assert f"{PREFIX}METRICS_PORT must be free" in line

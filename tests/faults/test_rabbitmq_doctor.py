"""`mosaic-sessions doctor` with a RabbitMQ as broker: each planted fault is found by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from sandbox.ports import HOST, free_port
from sandbox.processes import poll_until
from sandbox.rabbitmq import CLASSIC, QUORUM, RabbitMQ
from simulator.server import SimulatorServer
from tests.disguise import Disguise
from tests.faults.rabbitmq_rig import Api, declare, declare_all
from tests.integration.cli.cli_rig import run
from tests.integration.operations.doctor_rig import PASSWORD, elsewhere, findings, living
from tests.stage import Stage
from worker.celery_support import rabbitmq as asked
from worker.operations import rabbitmq_policies


@dataclass
class Plan:
    """An installation with a RabbitMQ that has nothing wrong with it, before the fault."""

    stage: Stage
    server: RabbitMQ
    api: Api

    @contextmanager
    def broker(self, url: str, api_url: str | None = None) -> Iterator[None]:
        with elsewhere(
            self.stage,
            broker_url=url,
            redis_url=self.stage.settings.cache_url,
            rabbitmq_api_url=api_url or self.server.api_url,
        ):
            yield


@pytest.fixture
def plan(
    rabbitmq: RabbitMQ, sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> Iterator[Plan]:
    with living(sqlite_url, redis_url, mosaic) as stage:
        yield Plan(stage, rabbitmq, Api(rabbitmq))


Plant = Callable[[Plan], AbstractContextManager[None]]


@contextmanager
def away(plan: Plan) -> Iterator[None]:
    with plan.broker(f"amqp://user:{PASSWORD}@{HOST}:{free_port()}//"):
        yield


@contextmanager
def wrong_password(plan: Plan) -> Iterator[None]:
    with plan.broker(plan.server.url(CLASSIC).replace("guest:guest", f"guest:{PASSWORD}")):
        yield


@contextmanager
def no_such_host(plan: Plan) -> Iterator[None]:
    with plan.broker(plan.server.url("nowhere")):
        yield


@contextmanager
def no_tls(plan: Plan) -> Iterator[None]:
    with plan.broker(f"amqps://user:{PASSWORD}@{HOST}:{plan.server.port}/classic"):
        yield


@contextmanager
def strange_certificate(plan: Plan) -> Iterator[None]:
    with plan.broker(f"amqps://user:{PASSWORD}@{HOST}:{plan.server.tls_port}/classic"):
        yield


@contextmanager
def no_such_file(plan: Plan) -> Iterator[None]:
    with plan.broker(f"amqps://{HOST}:{plan.server.tls_port}/classic?ssl_ca_certs=/no/such.pem"):
        yield


@contextmanager
def disguised(plan: Plan, old: bytes, new: bytes) -> Iterator[None]:
    port = plan.server.port
    with (
        closing(Disguise(port, lambda said: said.replace(old, new))) as other,
        plan.broker(plan.server.url(CLASSIC).replace(str(port), str(other.port))),
    ):
        yield


@contextmanager
def old_version(plan: Plan) -> Iterator[None]:
    _, version = asked.product_and_version(plan.server.url(CLASSIC))
    with disguised(plan, version.encode(), "3.9".ljust(len(version), ".").encode()):
        yield


@contextmanager
def other_product(plan: Plan) -> Iterator[None]:
    with disguised(plan, b"RabbitMQ", b"WarrenMQ"):
        yield


ALL_BUT_ONE: Final = "^(auth|login|sessions|logout|idp|notify)$"


@contextmanager
def few_rights(plan: Plan) -> Iterator[None]:
    plan.api.put("users", "limited", password=PASSWORD, tags="")
    rights = {"configure": ALL_BUT_ONE, "write": ".*", "read": "^(?!logout)"}
    plan.api.put("permissions", CLASSIC, "limited", **rights | {"write": "^(?!amq|idp)"})
    url = plan.server.url(CLASSIC).replace("guest:guest", f"limited:{PASSWORD}")
    try:
        with plan.broker(url):
            yield
    finally:
        plan.api.delete("users", "limited")


@contextmanager
def full(plan: Plan) -> Iterator[None]:
    plan.server.control("set_vm_memory_high_watermark", "absolute", "1")
    try:
        with plan.broker(plan.server.url(CLASSIC)):
            yield
    finally:
        plan.server.control("set_vm_memory_high_watermark", "0.4")


@contextmanager
def other_queue(plan: Plan) -> Iterator[None]:
    with plan.api.virtual_host("other") as host:
        declare(plan.server.url(host), "login", durable=False)
        with plan.broker(plan.server.url(host)):
            yield


@contextmanager
def other_kind(plan: Plan) -> Iterator[None]:
    """Declared by hand, where the virtual host has another kind."""
    with plan.api.virtual_host("late") as host:
        declare(plan.server.url(host), "auth", queue_arguments={"x-queue-type": QUORUM})
        with plan.broker(plan.server.url(host)):
            yield


@contextmanager
def losing_policy(plan: Plan) -> Iterator[None]:
    with plan.api.virtual_host("ruled") as host:
        url = plan.server.url(host)
        declare_all(url)
        rule: dict[str, Any] = {"pattern": "^log", "definition": {"max-length": 10}}
        plan.api.put("policies", host, "short", **rule)
        with plan.broker(url):
            poll_until(lambda: rabbitmq_policies.harmful(plan.server.api_url, url, None), 60)
            yield


@contextmanager
def wrong_api_password(plan: Plan) -> Iterator[None]:
    api = plan.server.api_url.replace("guest:guest", f"guest:{PASSWORD}")
    with plan.broker(plan.server.url(CLASSIC), api):
        yield


@contextmanager
def no_api(plan: Plan) -> Iterator[None]:
    with plan.broker(plan.server.url(CLASSIC), f"http://user:{PASSWORD}@{HOST}:{free_port()}"):
        yield


@contextmanager
def other_api(plan: Plan) -> Iterator[None]:
    simulator = plan.stage.mosaic.url.removeprefix("http://")
    with plan.broker(plan.server.url(CLASSIC), f"http://user:{PASSWORD}@{simulator}"):
        yield


URL: Final = "CELERY_BROKER_URL"
# What is planted, under which name it is found, and words of what is said.
FAULTS: Final[dict[str, tuple[Plant, str, tuple[str, ...]]]] = {
    "it is away": (away, URL, ("the broker does not answer", "is it running")),
    "a wrong password": (wrong_password, URL, ("refuses us (AccessRefused)", "password")),
    "no such virtual host": (no_such_host, URL, ("refuses us (NotAllowed)", "virtual host")),
    "no TLS on that port": (no_tls, URL, ("TLS fails",)),
    "a certificate nobody knows": (
        strange_certificate,
        URL,
        ("its certificate is not accepted (self-signed certificate in certificate chain)",),
    ),
    "a file that is missing": (no_such_file, URL, ("No such file", "CELERY_BROKER_URL names")),
    "an old version": (old_version, URL, ("RabbitMQ 3.9", "it must be 3.10 or newer")),
    "another product": (other_product, URL, ("names a WarrenMQ",)),
    "a user with few rights": (
        few_rights,
        f"{URL} rights",
        ("not configure maintenance; write idp, amq.default; read logout:", "docs/deploy.md"),
    ),
    "memory that is used up": (full, f"{URL} room", ("takes no messages", "rabbitmqctl status")),
    "a queue declared otherwise": (other_queue, f"{URL} queues", ("login (durable)", "delete")),
    "a queue of another kind": (other_kind, f"{URL} queues", ("auth (x-queue-type)", "delete")),
    "a policy that loses jobs": (
        losing_policy,
        f"{URL} policies",
        ("login has max-length; logout has max-length", "pattern"),
    ),
    "a wrong password of the API": (
        wrong_api_password,
        f"{URL} policies",
        ("answers 401", "MOSAIC_SESSIONS_RABBITMQ_API_URL"),
    ),
    "no management plug-in": (
        no_api,
        f"{URL} policies",
        ("does not answer", "rabbitmq_management"),
    ),
    "what is no API": (other_api, f"{URL} policies", ("MOSAIC_SESSIONS_RABBITMQ_API_URL",)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_its_name(plan: Plan, name: str) -> None:
    plant, check, words = FAULTS[name]
    with plant(plan):
        found = findings("wrong", expect=1)
        printed = run("doctor", expect=1).stdout

    assert check in found, found
    assert all(word in found[check] for word in words), found[check]
    assert PASSWORD not in printed
    lines = [line for line in printed.splitlines() if line.startswith(f"wrong  {check}: ")]
    assert len(lines) == 1
    # Nothing else is blamed; on a busy machine the API may take its time.
    assert set(found) <= {check, "broker", f"{URL} policies"}, found


@pytest.mark.parametrize("kind", [CLASSIC, QUORUM])
def test_all_is_good_where_nothing_is_wrong_and_nothing_was_touched(plan: Plan, kind: str) -> None:
    declare_all(plan.server.url(kind))
    with plan.broker(plan.server.url(kind)):
        before = asked.kinds(plan.server.url(kind))
        good = findings("good", expect=0)

    assert good[URL].startswith("RabbitMQ 3")
    assert good[f"{URL} queues"] == f"{kind} queues"
    assert good[f"{URL} policies"] == "none loses jobs"
    assert asked.kinds(plan.server.url(kind)) == before


def test_before_the_first_worker_nothing_is_declared_by_looking(plan: Plan) -> None:
    with plan.api.virtual_host("empty") as host, plan.broker(plan.server.url(host)):
        hints = findings("hint", expect=0)

        assert "--default-queue-type quorum" in hints[f"{URL} queues"]
        assert asked.kinds(plan.server.url(host)) == {}


def test_policies_that_nobody_looked_at_are_a_hint(plan: Plan) -> None:
    url = plan.server.url(CLASSIC)
    with elsewhere(plan.stage, broker_url=url, redis_url=plan.stage.settings.cache_url):
        hints = findings("hint", expect=0)

    assert "rabbitmqctl list_policies" in hints[f"{URL} policies"]
    assert "max-length" in hints[f"{URL} policies"]

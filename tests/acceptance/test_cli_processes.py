"""The operators' command and the worker's refusals, as a shell sees them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import PREFIX, Stack
from session_client import Authenticated, Registered, SessionClient
from session_client.contract import Reason, Verdict
from tests.heard import told as told_by


@pytest.fixture
def stack(redis_server: RedisServer, redis_url: str) -> Iterator[Stack]:
    """A migrated database, an empty Redis, Mosaic; no worker yet."""
    with Stack(redis=redis_server) as stack:
        stack.migrate()
        yield stack


def cli(stack: Stack, *arguments: str, expect: int = 0) -> str:
    printed = stack.run("mosaic-sessions", *arguments, expect=expect)
    assert "Traceback" not in printed
    return printed


def told(stack: Stack, *arguments: str, expect: int = 0) -> Any:
    return json.loads(cli(stack, *arguments, "--json", expect=expect))


def secrets_of(stack: Stack) -> list[str]:
    ring = stack.environment[f"{PREFIX}ENCRYPTION_KEYS"]
    return [ring.partition(":")[2], stack.environment[f"{PREFIX}LOOKUP_KEY"]]


# --- verbs


def test_an_added_app_is_listed_and_its_key_works(stack: Stack, tmp_path: Path) -> None:
    secret_file = tmp_path / "client.secret"
    secret_file.write_text("the secret of its client", encoding="utf-8")
    stack.mosaic.add_client("client-shop", "the secret of its client")
    key = cli(
        stack, "apps", "add", "shop", "--client-id", "client-shop",
        "--client-secret-file", str(secret_file), "--quiet", "--allow", "silent_by_user",
    ).strip()  # fmt: skip
    stack.worker()

    assert [app["app_id"] for app in told(stack, "apps", "list")] == ["shop"]
    login = stack.mosaic.login("ada", "client-shop")
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        registered = client.register(
            user_id="ada", session_id=login.session_id, id_token=login.id_token, timeout=20
        )
        signed_in = client.silent_auth(user_id="ada", timeout=20)

    assert isinstance(registered, Registered)
    assert registered.session_ref is not None
    assert isinstance(signed_in, Authenticated)
    (session,) = told(stack, "sessions", "list")["sessions"]
    assert session["session_ref"] == registered.session_ref
    story = cli(stack, "sessions", "show", registered.session_ref)
    assert "authenticated" in story
    assert login.session_id not in story


def test_a_running_worker_takes_up_a_changed_client_secret(stack: Stack, tmp_path: Path) -> None:
    stack.environment[f"{PREFIX}REUSE_SECONDS"] = "0"
    secret_file = tmp_path / "client.secret"
    secret_file.write_text("changed-canary", encoding="utf-8")
    key = stack.add_app("shop")
    worker = stack.worker()
    login = stack.mosaic.login("ada", "client-shop")
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        client.register(
            user_id="ada", session_id=login.session_id, id_token=login.id_token, timeout=60
        )

        def ask() -> tuple[Verdict, str | None]:
            return told_by(lambda: client.silent_auth(user_id="ada", timeout=60))

        before = ask()
        stack.mosaic.add_client("client-shop", "changed-canary")
        stack.mosaic.revoke_client_tokens("client-shop")
        refused = ask()
        printed = cli(stack, "apps", "set", "shop", "--client-secret-file", str(secret_file))
        poll_until(lambda: ask() == before, 60, what="the new secret")

    assert before == (Verdict.AUTHENTICATED, None)
    assert refused == (Verdict.TEMPORARILY_UNAVAILABLE, Reason.CLIENT_REFUSED)
    assert "canary" not in printed + worker.log_text()


def test_a_revoked_session_is_ended_at_mosaic_within_seconds_also_without_beat(
    stack: Stack,
) -> None:
    key = stack.add_app("shop")
    stack.worker()
    login = stack.mosaic.login("ada", "client-shop")
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        client.register(
            user_id="ada", session_id=login.session_id, id_token=login.id_token, timeout=60
        )

    cli(stack, "sessions", "revoke", "--user", "ada", "--reason", "a test", "--yes")

    poll_until(lambda: not stack.mosaic.is_live(login.session_id), 30, what="its end at Mosaic")


def test_status_follows_the_workers(stack: Stack) -> None:
    before = told(stack, "status", expect=69)
    stack.beat()
    worker = stack.worker()
    during = told(stack, "status")
    worker.terminate(timeout=90)
    after = told(stack, "status", expect=69)

    assert (before["workers"], after["workers"]) == ([], [])
    (living,) = during["workers"]
    assert living["pid"] == worker.pid
    assert living["queues"] == [
        "auth",
        "idp",
        "login",
        "logout",
        "maintenance",
        "notify",
        "sessions",
    ]
    assert during["problems"] == []
    assert during["database"]["is_at_head"] is True


def test_config_shows_no_secret(stack: Stack) -> None:
    stack.environment["DATABASE_URL"] = "postgresql+psycopg://user:pw-canary@127.0.0.1:1/x"

    printed = cli(stack, "config") + cli(stack, "config", "--json")

    assert f"{PREFIX}ENCRYPTION_KEYS" in printed
    assert [secret for secret in (*secrets_of(stack), "canary") if secret in printed] == []


def test_generated_keys_start_a_worker(stack: Stack) -> None:
    environment = stack.environment
    for name in (f"{PREFIX}ENCRYPTION_KEYS", f"{PREFIX}LOOKUP_KEY"):
        del environment[name]
    printed = cli(stack, "keys", "generate")
    for line in printed.splitlines():
        name, _, value = line.partition("=")
        environment[name] = value

    stack.worker()

    assert len(told(stack, "status")["workers"]) == 1


def test_keys_are_generated_whatever_the_settings_are(stack: Stack) -> None:
    stack.environment[f"{PREFIX}NONSENSE"] = "x"

    assert f"{PREFIX}LOOKUP_KEY=" in cli(stack, "keys", "generate")


def test_a_missing_key_is_one_line_and_exit_code_78(stack: Stack) -> None:
    del stack.environment[f"{PREFIX}LOOKUP_KEY"]

    printed = cli(stack, "apps", "list", expect=78)

    assert printed.startswith(f"Error: {PREFIX}LOOKUP_KEY is missing")
    assert printed.count("\n") == 1


def test_a_dead_redis_and_database_are_one_line_each_and_exit_code_1(stack: Stack) -> None:
    stack.environment["CELERY_BROKER_URL"] = "redis://:pw-canary@127.0.0.1:1/0"
    stack.environment["DATABASE_URL"] = "postgresql+psycopg://user:pw-canary@127.0.0.1:1/x"

    printed = cli(stack, "status", expect=1)

    assert "Problem: Redis cannot be used" in printed
    assert "Problem: the database cannot be used" in printed
    assert "canary" not in printed


def test_a_verb_ends_without_a_warning(stack: Stack) -> None:
    stack.environment["PYTHONWARNINGS"] = "error"

    assert cli(stack, "prune", "--history", "--json").startswith("{")
    assert cli(stack, "status", expect=69).count("Warning") == 0


# --- what a worker refuses to start on


NOT_YET = 75  # a supervisor is to try again
NEEDS_A_PERSON = 78


def refusal(stack: Stack, *, expect: int = NEEDS_A_PERSON) -> str:
    """Start a worker that must not start; return what it said."""
    worker = stack.start("refused", "celery", "-A", "worker", "worker")
    code = worker.wait(timeout=120)
    said = worker.log_text()
    assert code == expect, said
    assert "Traceback" not in said
    assert [secret for secret in secrets_of(stack) if secret in said] == []
    return said


def test_a_worker_without_a_key_does_not_start(stack: Stack) -> None:
    ring = stack.environment.pop(f"{PREFIX}ENCRYPTION_KEYS")

    worker = stack.start("refused", "celery", "-A", "worker", "worker")

    assert worker.wait(timeout=120) == 78
    assert f"{PREFIX}ENCRYPTION_KEYS is missing" in worker.log_text()
    assert ring not in worker.log_text()


@pytest.mark.parametrize(  # all others are refused in the same place: tests/unit/test_settings.py
    ("name", "value", "words"),
    [
        ("CELERY_BROKER_URL", "redis://:pw@h:canary/0", "CELERY_BROKER_URL: needs redis://"),
        ("CELERY_RESULT_BACKEND", "redis://:canary@h/0", "CELERY_RESULT_BACKEND is set: unset it"),
    ],
)
def test_a_wrong_setting_is_named_and_never_quoted(
    stack: Stack, name: str, value: str, words: str
) -> None:
    stack.environment[name] = value

    said = refusal(stack)

    assert words in said
    assert "canary" not in said


def test_a_worker_does_not_start_on_a_database_behind_head(stack: Stack) -> None:
    stack.run("alembic", "downgrade", "base")

    assert "run `mosaic-sessions db upgrade`" in refusal(stack)

    stack.run("alembic", "upgrade", "head")
    stack.worker()


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgresql+psycopg://user:canary@127.0.0.1:1/x"),
        ("CELERY_BROKER_URL", "redis://:canary@127.0.0.1:1/0"),
    ],
)
def test_a_worker_whose_servers_are_away_is_to_be_started_again(
    stack: Stack, name: str, url: str
) -> None:
    stack.environment[name] = url

    said = refusal(stack, expect=NOT_YET)

    assert "The session worker does not start yet: " in said
    assert f"is {name} right" in said
    assert "canary" not in said


def test_a_worker_does_not_start_on_a_broker_that_may_evict(stack: Stack) -> None:
    with RedisServer(maxmemory_policy="allkeys-lru") as server:
        stack.environment["CELERY_BROKER_URL"] = server.url()

        assert "Set it to noeviction" in refusal(stack)


def test_a_worker_does_not_start_with_other_keys_than_the_store_has(stack: Stack) -> None:
    stack.add_app("shop")
    other = base64.b64encode(b"x" * 32).decode()
    stack.environment[f"{PREFIX}ENCRYPTION_KEYS"] = f"k1:{other}"

    assert "key 'k1' does not open what is stored" in refusal(stack)


def test_a_worker_does_not_start_beside_one_with_another_visibility_timeout(stack: Stack) -> None:
    first = stack.worker()
    ours = stack.environment
    stack.environment = {**ours, f"{PREFIX}VISIBILITY_TIMEOUT_SECONDS": "600"}

    said = refusal(stack, expect=NOT_YET)

    assert "runs with a visibility timeout of 180 s, this one has 600 s" in said
    first.terminate(timeout=90)
    stack.worker(name="second")

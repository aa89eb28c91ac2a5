"""Notices without Celery, keys of logout tokens from the worker, settings from the environment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from cryptography.hazmat.primitives.asymmetric import rsa

from session_client import ConfigurationError, InvalidNotice, SessionClient, about
from tests.integration.client.client_rig import KEY, Content, Responder, answer_to, sealed
from tests.integration.client.test_client_async import message_with
from tests.integration.client.test_client_ended import notice_of
from worker.backchannel.logout_tokens import LogoutTokens

ISSUER, AUDIENCE = "https://sessions.example.com", "client-shop"


@pytest.fixture
def client(redis_url: str) -> Iterator[SessionClient]:
    with SessionClient(broker_url=redis_url, app_id="shop", app_key=KEY) as client:
        yield client


def test_notices_are_taken_from_a_queue_one_by_one(client: SessionClient, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as admin:
        for item in (message_with(notice_of("one")), "no message", message_with(notice_of("two"))):
            admin.lpush("desk", item)

    taken = [notice.session_ref for notice in client.notices("desk", timeout=0.5)]

    assert taken == ["one", "two"]


class Worker:
    """Signs logout tokens, and tells its keys to those who ask."""

    def __init__(self) -> None:
        self.asked = 0
        self.change_key()

    def change_key(self) -> None:
        key = rsa.generate_private_key(65537, 2048)
        self._tokens = LogoutTokens(ISSUER, [key], lambda: datetime.now(UTC))

    def token(self, notice_id: str) -> str:
        return self._tokens.sign(
            audience=AUDIENCE, user_id="ada", session_ref="ref", notice_id=notice_id
        )

    def answers(self, request: Content) -> list[bytes]:
        self.asked += 1
        data = {
            "app_id": "shop", "capabilities": [], "methods": [], "notice_issuer": ISSUER,
            "notice_audience": AUDIENCE, "notice_keys": self._tokens.public_keys(),
        }  # fmt: skip
        now = datetime.now(UTC).isoformat()
        return [sealed(answer_to(request, data=data, answered_at=now))]


def test_keys_of_logout_tokens_are_asked_for_once_and_again_for_a_new_one(
    client: SessionClient, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()
    with Responder(redis_url, worker.answers):
        first = [client.verify_logout_token(worker.token(n), timeout=30) for n in ("n-1", "n-2")]
        asked_first = worker.asked
        worker.change_key()
        with pytest.raises(InvalidNotice, match="signature"):  # a forger's, for all we know
            client.verify_logout_token(worker.token("n-3"), timeout=30)
        asked_for_a_forger = worker.asked
        monkeypatch.setattr(about, "ASK_AGAIN_SECONDS", 0.0)
        third = client.verify_logout_token(worker.token("n-3"), timeout=30)

    assert [notice.notice_id for notice in (*first, third)] == ["n-1", "n-2", "n-3"]
    assert (asked_first, asked_for_a_forger, worker.asked) == (1, 1, 2)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("SESSION_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("SESSION_APP_ID", "shop")
    monkeypatch.setenv("SESSION_APP_KEY", KEY.text())
    return monkeypatch


def test_a_client_is_made_of_the_environment(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "app.key"
    path.write_text(f"{KEY.text()}\n", encoding="utf-8")
    environment.setenv("SESSION_EARLIER_KEYS", f"k0.{KEY.text().partition('.')[2]}, ")
    by_value = SessionClient.from_env()
    environment.delenv("SESSION_APP_KEY")
    environment.setenv("SESSION_APP_KEY_FILE", str(path))

    assert set(by_value._app.keys) == {"k0", "k1"}
    assert SessionClient.from_env()._app.key == KEY


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("SESSION_BROKER_URL", "SESSION_BROKER_URL"),
        ("SESSION_APP_ID", "SESSION_APP_ID"),
        ("SESSION_APP_KEY", "SESSION_APP_KEY or SESSION_APP_KEY_FILE"),
    ],
)
def test_what_the_environment_lacks_is_named(
    environment: pytest.MonkeyPatch, missing: str, told: str
) -> None:
    environment.delenv(missing)

    with pytest.raises(ConfigurationError, match=f"^not set: {told}$"):
        SessionClient.from_env()


def test_a_file_without_a_key_is_named_and_not_quoted(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.delenv("SESSION_APP_KEY")
    environment.setenv("SESSION_APP_KEY_FILE", str(tmp_path / "nowhere"))

    with pytest.raises(ConfigurationError, match=r"^SESSION_APP_KEY_FILE: FileNotFoundError$"):
        SessionClient.from_env()

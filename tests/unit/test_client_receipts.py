"""What a logout waits for, and for how long."""

from __future__ import annotations

import time

import pytest

from session_client import (
    AppKey,
    LogoutReceipt,
    LogoutWait,
    NotAnswered,
    SessionClient,
    Verdict,
    receipts,
)


def receipt(verdict: Verdict = Verdict.OK, *, idp: int = 0, apps: str = "") -> LogoutReceipt:
    return LogoutReceipt(
        verdict=verdict,
        request_id="r" * 16,
        receipt_id="1",
        idp_pending=idp,
        apps_pending=tuple(apps.split()),
    )


class Client(SessionClient):
    """Gets the receipts that a test lays down, None for silence; then the last one for ever."""

    def __init__(self, *receipts: LogoutReceipt | None) -> None:
        key = AppKey("k1", bytes(32))
        super().__init__(broker_url="redis://127.0.0.1:1/0", app_id="shop", app_key=key)
        self.receipts = list(receipts)
        self.timeouts: list[float] = []

    def send_logout(self, request_id: str, envelope: str, *, timeout: float) -> LogoutReceipt:
        del request_id, envelope, timeout
        return receipt(idp=1, apps="web")

    def receipt(self, receipt_id: str, *, timeout: float = 5.0) -> LogoutReceipt:
        del receipt_id
        self.timeouts.append(timeout)
        latest = self.receipts.pop(0) if len(self.receipts) > 1 else self.receipts[0]
        if latest is None:
            raise NotAnswered("lost")
        return latest


@pytest.mark.parametrize("wait", LogoutWait)
def test_a_refusal_has_reached_nothing(wait: LogoutWait) -> None:
    assert receipt().has_reached(wait)
    assert not receipt(Verdict.TEMPORARILY_UNAVAILABLE).has_reached(wait)


def test_a_receipt_of_a_worker_that_does_not_count_failures_apart_is_read() -> None:
    data = {"receipt_id": "1", "sessions_ended": 2, "idp_pending": 1, "idp_unconfirmed": 1}

    read = LogoutReceipt.from_wire({"verdict": "ok", "request_id": "r" * 16, "data": data})

    assert (read.idp_pending, read.idp_unconfirmed, read.idp_failed) == (1, 1, 0)


def test_a_lost_question_or_a_refused_one_does_not_end_the_wait() -> None:
    shop = Client(None, receipt(Verdict.TEMPORARILY_UNAVAILABLE), receipt(apps="web"), receipt())

    done = shop.logout(user_id="ada", session_id="s", wait="all", timeout=20)

    assert done == receipt()
    assert max(shop.timeouts) <= receipts.QUESTION_TIMEOUT_SECONDS


def test_when_time_is_up_the_latest_receipt_is_returned() -> None:
    latest = Client(receipt(apps="web")).logout(
        user_id="ada", session_id="s", wait="all", timeout=0.45
    )

    assert latest == receipt(apps="web")


def test_the_wait_for_a_receipt_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "ASK_AGAIN_AFTER_SECONDS", 60.0)
    started = time.monotonic()

    Client(receipt(apps="web")).logout(user_id="ada", session_id="s", wait="all", timeout=0.2)

    assert time.monotonic() - started < 10

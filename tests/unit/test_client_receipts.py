"""What a logout waits for, and for how long; a call's life, step by step, without a broker."""

from __future__ import annotations

import time
from typing import Any

import pytest

from session_client import AppKey, Logout, LogoutReceipt, LogoutWait, Verdict, sealing
from session_client._core import call
from session_client._core.app import App
from session_client._core.call import Ask, Rest
from session_client.contract import Task

KEY = AppKey("k1", bytes(32))


def told(*, idp: int = 0, apps: str = "", verdict: str = "ok") -> dict[str, Any]:
    data = {"receipt_id": "1", "idp_pending": idp, "apps_pending": apps.split()}
    return {"verdict": verdict, "data": data}


def log_out(
    *receipts: dict[str, Any] | None, wait: str = "all", timeout: float = 20.0
) -> tuple[LogoutReceipt, list[Ask]]:
    """Log out, and be told these one by one, None for silence; then the last one for ever.

    No question about the receipt waits for long: an answer that is lost must not end the wait.
    """
    until = time.monotonic() + timeout
    life = call.life(App("shop", KEY), Logout(user_id="ada", session_id="s", wait=wait), until)
    answers = [told(idp=1, apps="web"), *receipts]
    asked: list[Ask] = []
    sent: Any = None
    try:
        while True:
            step = life.send(sent)
            sent = None
            if isinstance(step, Rest):
                time.sleep(max(0.0, step.until - time.monotonic()))
                continue
            if asked:
                assert step.until - time.monotonic() <= call.QUESTION_TIMEOUT_SECONDS
            asked.append(step)
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if answer is not None:
                content = {
                    "v": 1,
                    "task": step.message.task.value,
                    "app_id": "shop",
                    "request_id": step.message.request_id,
                    **answer,
                }
                sent = sealing.seal(KEY, sealing.Kind.ANSWER, content).encode()
    except StopIteration as end:
        return end.value, asked


def test_a_receipt_says_what_has_been_reached() -> None:
    assert [LogoutReceipt().has_reached(wait) for wait in LogoutWait] == [True] * 3
    pending = LogoutReceipt(idp_pending=1)
    assert [pending.has_reached(wait) for wait in LogoutWait] == [True, False, False]
    told_late = LogoutReceipt(apps_pending=("web",))
    assert [told_late.has_reached(wait) for wait in LogoutWait] == [True, True, False]


def test_a_logout_that_waits_for_nobody_asks_once() -> None:
    receipt, asked = log_out(told(), wait="local")

    assert (receipt.idp_pending, receipt.apps_pending, len(asked)) == (1, ("web",), 1)


def test_a_lost_question_or_a_refused_one_does_not_end_the_wait() -> None:
    put_off = told(verdict=Verdict.TEMPORARILY_UNAVAILABLE.value)

    receipt, asked = log_out(None, put_off, told(apps="web"), told())

    assert receipt == LogoutReceipt(receipt_id="1")
    assert [ask.message.task for ask in asked] == [Task.LOGOUT, *[Task.RECEIPT] * 4]


def test_when_time_is_up_the_latest_receipt_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "ASK_AGAIN_AFTER_SECONDS", 0.01)

    receipt, _ = log_out(told(apps="web"), timeout=1.0)

    assert receipt == LogoutReceipt(receipt_id="1", apps_pending=("web",))


def test_the_wait_for_a_receipt_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "ASK_AGAIN_AFTER_SECONDS", 60.0)
    started = time.monotonic()

    log_out(told(apps="web"), timeout=0.2)

    assert time.monotonic() - started < 10


def test_however_long_the_wait_the_news_is_asked_for_every_little_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)

    log_out(*[told(apps="web")] * 10, told(), timeout=600.0)

    assert len(pauses) == 11
    assert max(pauses) <= call.ASK_AGAIN_AT_MOST_EVERY_SECONDS

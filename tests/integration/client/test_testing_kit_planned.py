"""What a test plans in place of the pretend worker's answers is what the app's call comes to."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from session_client import (
    AppKey,
    AsyncSessionClient,
    Authenticated,
    Denied,
    LoginRequired,
    LogoutNotice,
    LogoutReceipt,
    NotAcknowledged,
    NotAnswered,
    Password,
    Registered,
    SessionClient,
    StepUpRequired,
    Ticket,
    Tokens,
    Unavailable,
    methods,
)
from session_client._pretend.planned import Planned
from session_client.about import Check
from session_client.begun import Begun
from session_client.contract import Task
from session_client.login_steps import FirstStep, limits_of
from session_client.logins import Authenticate, Start
from session_client.requests import (
    ConfirmNotice,
    IssueTicket,
    Logout,
    Receipt,
    Refresh,
    Register,
    Request,
    RevokeUser,
    SilentAuth,
    Status,
)
from session_client.testing import SessionWorker, no_session_worker, session_worker

__all__ = ["no_session_worker", "session_worker"]

PLACE: Any = {"broker_url": "redis://nobody", "app_id": "shop", "app_key": AppKey.generate()}
CLIENT, IN_LOOP = SessionClient(**PLACE), AsyncSessionClient(**PLACE)
TOKEN = "msb1_" + "y" * 43
CLAIMS = {"sub": "ada"}
ID_TOKEN = f"h.{base64.urlsafe_b64encode(json.dumps(CLAIMS).encode()).decode()}.s"

LOGIN = Authenticate(Password("ada", "lovelace"))
REGISTER = Register(user_id="ada", session_id="s", id_token="i.i.i")
TICKET = IssueTicket(browser_token=TOKEN, for_app="forum", challenge="x" * 43)
NOTICE = LogoutNotice(notice_id="n", user_id="ada", session_ref=None)
# What can be planned, by which requests it comes.
COMES_BY: dict[type[Any], list[Request[Any]]] = {
    Authenticated: [LOGIN, Refresh("r")],
    StepUpRequired: [LOGIN, Refresh("r")],
    LoginRequired: [LOGIN, Refresh("r"), REGISTER, TICKET],
    Denied: [LOGIN],
    LogoutReceipt: [Receipt("r")],
    Registered: [REGISTER],
    Ticket: [TICKET],
    NoneType: [ConfirmNotice(NOTICE)],
}


def begins(step: type[FirstStep[Any]]) -> Start[Any]:
    texts = {
        name: limits.one_of[0] if limits.one_of else "https://x"  # also what leads back to the app
        for name, limits in limits_of(step).items()
    }
    if step.needs_approval_data:
        return Start(step(**texts), step_up=TOKEN, approval_data={"amount": "12.50"})
    return Start(step(**texts), login="l" if step.needs_login else None)


def cases() -> list[tuple[type[Any], Request[Any]]]:
    found = [(kind, asks) for kind, requests in COMES_BY.items() for asks in requests]
    steps = [step for step in methods.TABLE if issubclass(step, FirstStep)]
    return found + [(step.gives, begins(step)) for step in steps] + [(Denied, begins(steps[0]))]


def filled(kind: type[Any]) -> Any:
    """Return one of *kind* of which every field is given."""
    if kind is NoneType:
        return None
    types = get_type_hints(kind)
    given = {
        known.name: example(known.name, types[known.name]) for known in dataclasses.fields(kind)
    }
    return kind(**given)


def example(name: str, kind: Any) -> Any:
    if get_origin(kind) is UnionType:
        kind = next(each for each in get_args(kind) if each is not NoneType)
    if name == "id_token":
        return ID_TOKEN
    if name == "claims":
        return CLAIMS
    if kind is Tokens:
        return filled(Tokens)
    if get_origin(kind) is tuple:
        return ("a", "b")
    if get_origin(kind) in {dict, Mapping}:
        return {"a": 1}
    return {str: f"some {name}", int: 7, float: 70.0, bool: True}[kind]


def rounded(value: Any) -> Any:
    """Return *value* with its ages and remaining times in whole seconds."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    seconds = {
        known.name: round(held, -1)
        for known in dataclasses.fields(value)
        if isinstance(held := getattr(value, known.name), float)
    }
    return dataclasses.replace(value, **seconds)


def test_every_kind_that_can_be_planned_is_tried() -> None:
    kinds = {kind for kind in get_args(Planned) if kind is not Begun}
    names = {kind.__name__ for kind in (*kinds, *Begun.__subclasses__())}

    assert {kind.__name__ for kind, _ in cases()} == names


@pytest.mark.parametrize(
    ("kind", "asks"), cases(), ids=lambda case: getattr(case, "__name__", type(case).__name__)
)
def test_a_planned_answer_arrives_with_all_its_fields(
    session_worker: SessionWorker, kind: type[Any], asks: Request[Any]
) -> None:
    planned = filled(kind)
    session_worker.next(type(asks), planned)

    assert rounded(CLIENT._run(asks)) == planned


REQUESTS: list[Request[Any]] = [
    LOGIN,
    REGISTER,
    TICKET,
    Refresh("r"),
    Receipt("r"),
    ConfirmNotice(NOTICE),
    begins(methods.SendOtp),
    SilentAuth(user_id="ada"),
    Status(user_id="ada"),
    Logout(browser_token=TOKEN),
    RevokeUser("ada"),
    Check(),
]
OUTAGES: list[type[Unavailable]] = [Unavailable, *Unavailable.__subclasses__()]


def in_a_thread(request: Request[Any]) -> Any:
    return CLIENT._run(request)


def in_an_event_loop(request: Request[Any]) -> Any:
    return asyncio.run(IN_LOOP._run(request))


def test_every_request_is_tried() -> None:
    assert {request.task for request in REQUESTS} == set(Task)


@pytest.mark.parametrize("ask", [in_a_thread, in_an_event_loop])
@pytest.mark.parametrize("asks", REQUESTS, ids=lambda asks: type(asks).__name__)
def test_a_planned_outage_is_what_one_call_comes_to_and_at_once(
    session_worker: SessionWorker, asks: Request[Any], ask: Callable[[Request[Any]], Any]
) -> None:
    for n, outage in enumerate(OUTAGES):
        session_worker.next(type(asks), outage(f"planned {n}", retry_after=7.0))

    for n, outage in enumerate(OUTAGES):
        raised: Any = NotAcknowledged if asks.is_acknowledged else outage
        with pytest.raises(raised) as caught:
            ask(dataclasses.replace(asks, request_id=f"{n}" * 16))

        told: Any = caught.value
        why: Any = told.__cause__ if asks.is_acknowledged else told
        assert (type(why), told.request_id) == (outage, f"{n}" * 16)
        if not (isinstance(asks, Check) and outage is NotAnswered):  # that says what may be wrong
            assert (str(why), why.retry_after) == (f"planned {n}", 7.0)
    assert len(session_worker.calls) == len(OUTAGES)


def test_after_an_outage_the_same_request_is_served(session_worker: SessionWorker) -> None:
    ada = session_worker.sign_in("ada")
    session_worker.next(Logout, NotAnswered())
    with pytest.raises(NotAcknowledged) as caught:
        CLIENT.logout(browser_token=ada.session.token)
    assert session_worker.is_live(ada)

    CLIENT.logout(browser_token=ada.session.token, request_id=caught.value.request_id)

    assert not session_worker.is_live(ada)


def test_an_outage_of_the_news_of_a_logout_is_none_of_the_logout(
    session_worker: SessionWorker,
) -> None:
    session_worker.next(Logout, LogoutReceipt(receipt_id="r", idp_pending=1))
    session_worker.next(Receipt, NotAnswered())
    session_worker.next(Receipt, LogoutReceipt(receipt_id="r", idp_confirmed=1))

    receipt = CLIENT.logout(user_id="ada", everywhere=True, wait="idp")

    assert receipt.idp_confirmed == 1


PENDING = (
    LogoutReceipt(receipt_id="r", idp_pending=1),
    LogoutReceipt(receipt_id="r", idp_user="pending"),
    LogoutReceipt(receipt_id="r", apps_pending=("forum",)),
)


@pytest.mark.parametrize("pending", PENDING, ids=["idp", "user", "apps"])
@pytest.mark.parametrize("more", [[], PENDING[:1], [NotAnswered(), *PENDING[:2]]], ids=len)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_receipt_that_stays_pending_is_asked_for_as_often_as_is_planned_and_no_more(
    session_worker: SessionWorker,
    pending: LogoutReceipt,
    more: list[LogoutReceipt | Unavailable],
    *,
    is_async: bool,
) -> None:
    logout = Logout(user_id="ada", everywhere=True, wait="all", timeout=3600.0)
    session_worker.next(Logout, pending)
    for outcome in more:
        session_worker.next(Receipt, outcome)

    receipt = asyncio.run(IN_LOOP._run(logout)) if is_async else CLIENT._run(logout)

    assert receipt == (more[-1] if more else pending)
    asked = [call.task for call in session_worker.calls]
    assert asked == [Task.LOGOUT, *[Task.RECEIPT] * len(more)]


@pytest.mark.parametrize(
    ("kind", "asks"), cases(), ids=lambda case: getattr(case, "__name__", type(case).__name__)
)
def test_a_request_that_is_asked_again_gets_the_answer_that_it_got(
    session_worker: SessionWorker, kind: type[Any], asks: Request[Any]
) -> None:
    planned = filled(kind)
    session_worker.next(type(asks), planned)
    asks = dataclasses.replace(asks, request_id="r" * 16)

    answers = [CLIENT._run(asks) for _ in range(2)]

    assert list(map(rounded, answers)) == [planned] * 2

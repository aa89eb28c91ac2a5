"""One request from the app's point of view, for each subject. Made in the client's process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from celery import Celery

from benchmarks import people
from benchmarks.peers.mosaic import Mosaic
from session_client import Authenticated, LoginAnswer, Password, SessionClient
from session_client.keys import AppKey

Call = Callable[[int], None]
TIMEOUT_SECONDS: Final = 20.0


class WrongAnswerError(Exception):
    """An answer came that gives no tokens."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the subjects are."""

    our_brokers: dict[str, str]
    noop_broker: str
    peer_broker: str
    mosaic: str
    app_keys: dict[str, AppKey] = field(repr=False)


def caller(subject: str, addresses: Addresses) -> Call:
    """Return what asks *subject* for the user of a number."""
    return _MAKERS[subject](addresses)


def _ours(addresses: Addresses) -> Call:
    """By user id."""
    return _of_our_client(
        addresses,
        "ours",
        people.app_of,
        lambda client, number: client.silent_auth(
            user_id=people.user_id(number), timeout=TIMEOUT_SECONDS
        ),
    )


def _browser(addresses: Addresses) -> Call:
    """By the browser's token, as apps mostly ask."""
    return _of_our_client(
        addresses,
        "browser",
        people.app_of,
        lambda client, number: client.silent_auth(
            browser_token=people.browser_token(people.user_id(number)), timeout=TIMEOUT_SECONDS
        ),
    )


def _login(addresses: Addresses) -> Call:
    """By password: a new session each time."""
    return _of_our_client(
        addresses,
        "login",
        people.guests_app,
        lambda client, number: client.authenticate(
            Password(people.guest(number), "a password"), timeout=TIMEOUT_SECONDS
        ),
    )


def _of_our_client(
    addresses: Addresses,
    subject: str,
    app_of: Callable[[int], str],
    ask: Callable[[SessionClient, int], LoginAnswer],
) -> Call:
    broker_url = addresses.our_brokers[subject]
    clients = {
        app_id: SessionClient(broker_url=broker_url, app_id=app_id, app_key=key)
        for app_id, key in addresses.app_keys.items()
    }

    def call(number: int) -> None:
        answer = ask(clients[app_of(number)], number)
        if not isinstance(answer, Authenticated):
            raise WrongAnswerError(f"{type(answer).__name__} {answer.reason}")

    return call


def _noop(addresses: Addresses) -> Call:
    app = Celery("noop", broker=addresses.noop_broker, backend=addresses.noop_broker)

    def call(_: int) -> None:
        if app.send_task("noop").get(timeout=TIMEOUT_SECONDS) != "ok":
            raise WrongAnswerError

    return call


def _peer(addresses: Addresses) -> Call:
    app = Celery("peer", broker=addresses.peer_broker, backend=addresses.peer_broker)

    def call(number: int) -> None:
        arguments = (people.app_of(number), people.user_id(number))
        answer: Any = app.send_task("silent_auth", arguments).get(timeout=TIMEOUT_SECONDS)
        if "tokens" not in answer:
            raise WrongAnswerError(answer)

    return call


def _direct(addresses: Addresses) -> Call:
    mosaic = Mosaic(addresses.mosaic)

    def call(number: int) -> None:
        user = people.user_id(number)
        if mosaic.authenticate(people.app_of(number), user, people.session_id(user)) is None:
            raise WrongAnswerError

    return call


_MAKERS: Final = {
    "noop": _noop,
    "peer": _peer,
    "direct": _direct,
    "ours": _ours,
    "browser": _browser,
    "login": _login,
}
SUBJECTS: Final = tuple(_MAKERS)

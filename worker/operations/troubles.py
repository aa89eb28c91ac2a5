"""What is said of each trouble, and what an operator is to do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import redis

from session_client import contract
from worker.app_registry import GIVEN_ANEW
from worker.celery_support import heartbeat
from worker.errors import (
    ClientRefused,
    MosaicContractBroken,
    StoreDiskFails,
    StoreForbids,
    StoreUnavailable,
)
from worker.mosaic.asked import Endpoint
from worker.mosaic.faults import NO_ID_TOKEN, TOKENS
from worker.operations.dependencies import MAY_NOT_WRITE, unavailable
from worker.operations.lateness import Workers
from worker.operations.views import AppBehind, LateLogouts
from worker.settings.environment import variable_name
from worker.storage import disk_notes
from worker.storage.redis_client import ForeignKey, cause_of, why_no_writes
from worker.traffic import BreakerState
from worker.wiring import Services

_ANSWERED: Final = (ClientRefused.__name__, MosaicContractBroken.__name__)
# Requests of apps live for some seconds. Asking Redis takes two at most.
MAX_CLOCK_APART: Final = 5.0  # seconds, as docs/alerts.yml says


def queues_left_alone(workers: Workers) -> str | None:
    """Say which queues none of the living *workers* takes, or that no worker is alive."""
    if not workers:
        return "no worker is alive: start one"
    taken = [worker.get("queues") for worker in workers]
    left = [q.value for q in contract.Queue if not any(_has(queues, q.value) for queues in taken)]
    if not left:
        return None
    start = f"start one with -Q {','.join(left)}, or without -Q"
    return f"no worker takes queue {', '.join(left)}: {start}"


def _has(queues: object, queue: str) -> bool:
    # Each client of this Redis can write what a worker says of itself.
    return isinstance(queues, list) and queue in queues


def database_trouble(error: Exception) -> str:
    """Say that the database cannot be used, and what to look at."""
    if isinstance(error, StoreForbids):
        return f"the database cannot be used: {MAY_NOT_WRITE} (mosaic-sessions doctor names them)"
    if isinstance(error, StoreUnavailable):
        return unavailable(error)
    return (
        f"the database cannot be used: {type(error).__name__}. Is DATABASE_URL right "
        "(mosaic-sessions config), and has `mosaic-sessions db upgrade` been run?"
    )


def disk_failed(services: Services) -> str | None:
    """Say that a process has met a disk without space lately, and how long ago.

    Not of SQLite, of which it is seen at once. What Redis cannot tell is left out.
    """
    if services.store.is_sqlite:
        return None
    try:
        note = disk_notes.latest(services.redis)
    except redis.RedisError:
        return None
    if note is None:
        return None
    return (
        f"{unavailable(StoreDiskFails(note.says))}. It was last met {note.age_seconds:.0f} s ago: "
        f"this line goes {disk_notes.KEPT_SECONDS} s after the last time"
    )


def redis_trouble(error: redis.RedisError) -> str:
    """Say that Redis cannot be used, and what to look at."""
    if isinstance(error, ForeignKey):
        return str(error)
    if why := why_no_writes(error):
        return f"Redis reads, and takes no writes: {why}. Workers go on once it does"
    return (
        f"Redis cannot be used ({cause_of(error)}). Is it running, and are "
        "CELERY_BROKER_URL and REDIS_URL right (mosaic-sessions config)?"
    )


def clock_apart(worker: Mapping[str, Any]) -> str | None:
    """Say that the clock of a worker and Redis' differ, if they do."""
    ahead = worker.get(heartbeat.CLOCK_AHEAD)
    if not isinstance(ahead, int | float) or not MAX_CLOCK_APART < abs(ahead) < math.inf:
        return None
    side = "ahead of" if ahead > 0 else "behind"
    return (
        f"the clock of worker {worker['hostname']} is {abs(ahead):.0f} s {side} Redis': it takes "
        "requests for too late or not made yet (deadline_passed, clock_skew), or tokens for "
        "expired or not valid yet. Synchronise both (NTP)"
    )


def no_answers(breaker: BreakerState) -> str:
    """Say that calls to Mosaic fail, and what to look at."""
    fault = "does not answer" if breaker.client_id is None else f"fails client {breaker.client_id}"
    return (
        f"Mosaic {fault}: the breaker of lane {breaker.lane} at {breaker.name} is open. "
        "Nothing is lost: users are to try later, logouts are kept. If it goes on, see in the log "
        "how each call fails (request_put_off, idp_logout_failed): is it the name, the certificate "
        "or the network on the way there? Else look at Mosaic's status page"
    )


def advice(endpoint: str, owner: str, error: str, detail: str) -> str:
    """Say what fails at Mosaic, for *owner* (an app, or a key set's URL), and what to do."""
    if endpoint == TOKENS:
        return f"{owner} gets no tokens ({detail}). {_what_to_do_with_tokens(owner, detail)}"
    what = _what_to_do(endpoint, owner, is_refused=error == ClientRefused.__name__)
    way = "" if error in _ANSWERED else " May this machine get there?"
    return f"{detail}. {what}{way}"


def _what_to_do(endpoint: str, owner: str, *, is_refused: bool) -> str:
    if endpoint == Endpoint.JWKS:
        return _check_address("jwks_url", "the app's")
    if not is_refused:
        setting = "token_url" if endpoint == Endpoint.TOKEN else "base_url"
        return _check_address(setting, f"{owner}'s")
    if endpoint == Endpoint.TOKEN:
        return (
            f"If the secret or key of {owner} has changed, {GIVEN_ANEW.format(owner)}. Mosaic must "
            "take one of the two from this client: mutual TLS (tls_client_auth) is not spoken"
        )
    # At the address of another Mosaic, a client and its token are strangers.
    address = _check_address("base_url", f"{owner}'s")
    return (
        f"Give the client of {owner} the right at Mosaic, in its admin portal. Or is this another "
        f"Mosaic than the one that its token is of? {address}"
    )


# By the check that rejected them.
OF_TOKENS: Final = {
    "encrypted": (
        "Mosaic encrypts the ID tokens of its client, and the worker has no key to open them: have "
        "them signed alone"
    ),
    "alg": "Have Mosaic sign the ID tokens of its client with RS256, PS256 or ES256",
    **dict.fromkeys(
        ("iss", "kid", "signature"),
        "Are its issuer and the address of its keys right (mosaic-sessions apps set {0} --issuer, "
        "--jwks-url)?",
    ),
    **dict.fromkeys(
        ("aud", "azp", "client_id"), "Is its client id right (mosaic-sessions apps show {0})?"
    ),
    **dict.fromkeys(
        ("exp", "iat", "nbf"),
        "Are this machine's clock and Mosaic's synchronised (mosaic-sessions doctor)?",
    ),
}
_NOT_SENT: Final = (
    "Have Mosaic send its client ID tokens, or access tokens that are JWTs for that client"
)


def _what_to_do_with_tokens(owner: str, detail: str) -> str:
    check = "" if NO_ID_TOKEN in detail else detail.rpartition(" ")[2]
    return OF_TOKENS.get(check, _NOT_SENT).format(owner)


def _check_address(setting: str, whose: str) -> str:
    option = setting.replace("_", "-")
    return (
        f"Is {variable_name(f'mosaic_{setting}')} right, or {whose} own (mosaic-sessions apps set "
        f"--{option})?"
    )


def late(logouts: LateLogouts) -> str:
    """Say that Mosaic could not be told of logouts, and where the errors are."""
    app_id = logouts.of_one_app
    whose = "" if app_id is None else f" of {app_id}"
    taken = f"does a worker take queue {contract.Queue.IDP}? " if app_id is None else ""
    only = "" if app_id is None else f" --app {app_id}"
    return (
        f"{logouts.pending} logouts{whose} could not be told to Mosaic, the oldest for "
        f"{logouts.oldest_seconds:.0f} s: {taken}mosaic-sessions logouts list{only} tells the last "
        "errors"
    )


def not_told(app: AppBehind) -> str:
    """Say that an app takes no notices, and what to look at."""
    why = app.last_error or "it has not confirmed them"
    return (
        f"{app.app_id} takes no notices, {app.pending} wait, the oldest for "
        f"{app.oldest_seconds:.0f} s ({why}): is it up, and is its address right "
        f"(mosaic-sessions apps show {app.app_id})?"
    )

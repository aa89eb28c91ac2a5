"""What becomes of Mosaic's answer to a login: verified, and stored as the call's row is closed."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from models import CallOutcome
from session_client import times
from session_client.contract import Verdict
from worker.errors import (
    MosaicContractBroken,
    MosaicUnavailable,
    SessionChanged,
    TokenRejected,
    WrongSubject,
)
from worker.logins import journal, known_browser, limits, orphans, unusable
from worker.logins.attempt import Attempt
from worker.logins.known_browser import Proved
from worker.logins.open_at_once import open_at_once
from worker.logout.owed_end import owe_end
from worker.logs import call_operator
from worker.mosaic import Identity, Tokens
from worker.requests.outcomes import Outcome
from worker.sign_in import store_session
from worker.sign_in.active_login import ActiveLogin
from worker.sign_in.commit import shown_tokens, step_up
from worker.sign_in.store_session import Stored


def settle(login: Attempt, call: UUID, body: Any) -> Outcome:
    """Return what the app gets of Mosaic's answer *body*, once it is stored."""
    services, app = login.services, login.request.app.mosaic
    try:
        tokens, identity = services.mosaic.read_login(app, body, login.session_id)
        _require_fresh(login, identity)
    except (TokenRejected, MosaicContractBroken) as error:
        call_operator(error, login.request.app.app_id)
        orphans.end(services, login.request, body, keeps=login.session_id)
        return unusable.unknown(login, call, str(error))
    except MosaicUnavailable as error:  # no keys to verify them with
        return unusable.thrown_away(login, call, body.get("session_id"), str(error))
    return finish(login, call, tokens, identity)


def finish(login: Attempt, call: UUID, tokens: Tokens, identity: Identity) -> Outcome:
    """Return what the app gets for *tokens*, which are verified, once they are stored."""
    if login.expected_user not in {None, identity.user_id}:
        return unusable.quarantine(login, call, tokens, identity)
    asked, approved = login.facts.approval_data, identity.approval_data
    if asked is not None and approved is None:
        error = TokenRejected("approval_data")
        call_operator(error, login.request.app.app_id)
        return unusable.thrown_away(login, call, tokens.session_id, str(error))
    if asked is not None and approved != asked:
        return unusable.approved_otherwise(login, call, tokens)
    try:
        return _store(login, call, tokens, identity)
    except WrongSubject:
        return unusable.quarantine(login, call, tokens, identity)
    except (IntegrityError, SessionChanged, _Overtaken):
        # Another request has used the handle up, or said that the answer of this one was lost.
        return unusable.thrown_away(login, call, tokens.session_id, "overtaken")


class _Overtaken(Exception):  # noqa: N818
    """The call's row was closed by another request: what it brought must be thrown away."""


def _require_fresh(login: Attempt, identity: Identity) -> None:
    """Raise `TokenRejected` for tokens from before the call: they are no answer to it."""
    skew = timedelta(seconds=login.services.settings.clock_skew_seconds)
    if identity.issued_at < login.begun_at - skew:
        raise TokenRejected("iat")


def _store(login: Attempt, call: UUID, tokens: Tokens, identity: Identity) -> Outcome:
    active = login.active(tokens, identity)
    live_at = time.monotonic()
    opened = open_at_once(
        login.services,
        login.request,
        active,
        call,
        login.guesser.subject,
        lambda stored: _answer(login, tokens, identity, stored),
    )
    outcome, has_orphans = opened or _store_in_steps(login, call, active, tokens, identity)
    return replace(
        outcome,
        orphans=(call,) if has_orphans else (),
        # So that a logout that is committed before they are pushed keeps the tokens back.
        live_at=live_at if "tokens" in outcome.data else None,
    )


def _store_in_steps(
    login: Attempt, call: UUID, active: ActiveLogin, tokens: Tokens, identity: Identity
) -> tuple[Outcome, bool]:
    services, request = login.services, login.request
    has_orphans = False
    with services.store.write() as connection:
        stored = store_session.store(connection, services, request, active)
        if isinstance(stored, Outcome):
            owed = owe_end(
                connection, services, request.app, tokens.session_id, asked_about=active.into
            )
            outcome, session = replace(stored, logouts=(*stored.logouts, *owed)), None
        else:
            has_orphans = login.raised is None and orphans.may_have_left(
                connection, request.app.app_id, login.guesser.subject
            )
            outcome, session = _answer(login, tokens, identity, stored), stored.session
        is_open = journal.close(
            connection, services, call, CallOutcome.ANSWERED, answer=outcome, session=session
        )
        if not is_open:
            raise _Overtaken
    return outcome, has_orphans


def _answer(login: Attempt, tokens: Tokens, identity: Identity, stored: Stored) -> Outcome:
    """Return tokens, or what the login lacks for this app: then its browser may still step up."""
    services, app = login.services, login.request.app
    proved = Proved(
        user=limits.subject_of(services, "user_id", stored.user_id),
        name=login.guesser.subject,
        is_named_by_mosaic=login.is_named_by_mosaic,
        way=login.way,
    )
    known = {
        "amr": stored.amr,
        "browser_token": stored.browser_token,
        "known_browser": known_browser.make(services, login.request, proved),
    }
    fields = {name: value for name, value in known.items() if value is not None}
    logouts, notices = stored.replaced.logouts, stored.replaced.notices
    is_unproven = identity.amr is None and not stored.amr
    shortfall = app.policy.shortfall(
        None if is_unproven else stored.amr, stored.authenticated_at, services.now()
    )
    if shortfall is not None:
        lacking = step_up(stored.session, stored.user_id, shortfall)
        data = {**lacking.data, **fields}
        return Outcome(lacking.verdict, lacking.reason, data, logouts=logouts, notices=notices)
    data = {
        "tokens": shown_tokens(services.keyring, app, stored.session, tokens),
        "user_id": stored.user_id,
        "session_ref": str(stored.session),
        "expires_at": times.to_wire(stored.expires_at),
        "authenticated_at": times.to_wire(stored.authenticated_at),
        **fields,
    }
    if login.facts.approval_data is not None:
        data["approval_data"] = login.facts.approval_data
    return Outcome(Verdict.AUTHENTICATED, data=data, logouts=logouts, notices=notices)

"""How the pretend worker signs in silently: by browser, reference, user, ticket, refresh token."""

from __future__ import annotations

import base64
import json
import secrets
from datetime import timedelta
from typing import Any, Final

from session_client import contract, times
from session_client._pretend.planned import Reply
from session_client._pretend.store import (
    Call,
    Carried,
    Grant,
    PretendSession,
    Store,
    end,
    live_or_why,
    no_session,
    not_permitted,
)
from session_client.contract import Reason, Verdict

LASTS: Final = timedelta(days=14)
_OFFLINE: Final = "offline"
# For so long a refresh token that is brought again gets the answer it has had.
_TOLD_AGAIN: Final = timedelta(seconds=60)


def silent_auth(store: Store, call: Call) -> Reply:
    """Answer a silent authentication."""
    if call.payload.get("ticket") is not None:
        return _redeem(store, call)
    found = _named(store, call)
    return found if isinstance(found, Reply) else judged(store, call, found)


def _named(store: Store, call: Call) -> PretendSession | Reply:
    payload, device = call.payload, call.payload.get("device_id")
    if payload.get("browser_token") is not None:
        found = of_browser(store, payload["browser_token"])
    elif payload.get("session_ref") is not None:
        session = store.by_ref(payload["session_ref"])
        if session is None or call.app_id not in session.apps:
            return no_session()
        found = live_or_why(session) if session.user_id == payload["user_id"] else no_session()
    else:
        return _of_user(store, payload["user_id"], device)
    if isinstance(found, Reply) or device in {None, found.device_id}:
        return found
    return no_session()


def of_browser(store: Store, token: str) -> PretendSession | Reply:
    """Return the live session that a browser's token names, or the answer that it names none."""
    session = store.by_token(token)
    if session is None:
        return no_session()
    if token in session.tokens:
        return live_or_why(session)
    is_recent = session.replaced[token].is_recent
    reason = Reason.TOKEN_REPLACED if is_recent else Reason.NO_SESSION
    return Reply(Verdict.LOGIN_REQUIRED, reason.value)


def _of_user(store: Store, user_id: str, device_id: str | None) -> PretendSession | Reply:
    refusal = store.require("silent_by_user")
    if refusal is not None:
        return refusal
    theirs = [s for s in store.of(user_id) if s.device_id == device_id]
    live = [s for s in theirs if s.ended is None]
    if live:
        return live[-1]
    reason = theirs[-1].ended if theirs else Reason.NO_SESSION.value
    return Reply(Verdict.LOGIN_REQUIRED, reason)


def judged(
    store: Store, call: Call, session: PretendSession, *, asked: bool = True, **more: str | None
) -> Reply:
    """Hold *session* to the policy, and, if *asked*, to what the request asks for besides."""
    payload = call.payload if asked else {}
    missing = sorted({*store.policy, *payload.get("amr_all_of", ())} - set(session.amr))
    any_of = set(payload.get("amr_any_of", ()))
    if any_of and any_of.isdisjoint(session.amr):
        missing += sorted(any_of)
    data: dict[str, Any] = {
        "user_id": session.user_id,
        "session_ref": session.session_ref,
        "amr": list(session.amr),
        **{name: value for name, value in more.items() if value is not None},
    }
    max_age = payload.get("max_age")
    age = (times.now() - session.authenticated_at).total_seconds()
    if missing:
        data["missing_amr"] = missing
        return Reply(Verdict.INTERACTION_REQUIRED, Reason.AMR_MISSING.value, data)
    if max_age is not None and age > max_age:
        data["max_age_exceeded"] = True
        return Reply(Verdict.INTERACTION_REQUIRED, Reason.MAX_AGE_EXCEEDED.value, data)
    session.apps.add(call.app_id)
    data |= {
        "tokens": _tokens(store, call.app_id, session),
        "authenticated_at": times.to_wire(session.authenticated_at),
        "expires_at": times.to_wire(times.now() + LASTS),
    }
    return Reply(Verdict.AUTHENTICATED, None, data)


def _tokens(store: Store, app_id: str, session: PretendSession) -> dict[str, Any]:
    claims = {"sub": session.user_id, "amr": list(session.amr)}
    id_token = ".".join(_encoded(json.dumps(part)) for part in ({"alg": "none"}, claims))
    tokens = {
        "access_token": secrets.token_urlsafe(16),
        "token_type": "bearer",
        "expires_in": 3600,
        "id_token": f"{id_token}.",
    }
    if _OFFLINE in store.capabilities:
        tokens["refresh_token"] = secrets.token_urlsafe(32)
        store.grants[str(tokens["refresh_token"])] = Grant(session, app_id)
    return tokens


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


# --- tickets


def issue_ticket(store: Store, call: Call) -> Reply:
    """Give out a ticket, where a test has opened the way for it."""
    for_app = call.payload["for_app"]
    address = store.ways.get((call.app_id, for_app))
    if address is None:
        return not_permitted()
    session = of_browser(store, call.payload["browser_token"])
    if isinstance(session, Reply):
        return session
    ticket = f"mst1_{secrets.token_urlsafe(32)}"
    store.tickets[ticket] = Carried(session, call.app_id, for_app, call.payload["challenge"])
    seconds = round(contract.TICKET_LIFETIME.total_seconds())
    data = {"ticket": ticket, "transfer_url": address, "expires_in": seconds}
    return Reply(Verdict.OK, None, data)


def _redeem(store: Store, call: Call) -> Reply:
    """Sign in by a ticket; what is refused uses nothing up."""
    carried = store.tickets.get(call.payload["ticket"])
    replaces = call.payload.get("replaces")
    before = store.by_token(replaces)
    if carried is None or not _may_redeem(store, call, carried, before):
        return Reply(Verdict.LOGIN_REQUIRED, Reason.TICKET_REFUSED.value)
    carried.used_by = call.request_id
    session = carried.session
    if before is session:
        session.replace_token(str(replaces))
    elif before is not None:
        end(before, Reason.REPLACED.value)
    return judged(store, call, session, browser_token=session.give_token())


def _may_redeem(store: Store, call: Call, carried: Carried, before: PretendSession | None) -> bool:
    session = carried.session
    is_for_us = call.app_id == carried.for_app and (carried.from_app, call.app_id) in store.ways
    is_theirs = contract.challenge_of(call.payload["verifier"]) == carried.challenge
    is_free = carried.used_by in {None, call.request_id} and times.now() < carried.expires_at
    is_of_device = call.payload.get("device_id") in {None, session.device_id}
    is_another_in = (
        before is not None and before.ended is None and before.user_id != session.user_id
    )
    is_live = session.ended is None
    return is_for_us and is_theirs and is_free and is_live and is_of_device and not is_another_in


# --- refresh tokens


def refresh(store: Store, call: Call) -> Reply:
    """Exchange a refresh token; it serves once, and tells the same again for a minute."""
    refusal = store.require(_OFFLINE)
    if refusal is not None:
        return refusal
    refused = Reply(Verdict.LOGIN_REQUIRED, Reason.REFRESH_REFUSED.value)
    grant = store.grants.get(call.payload["refresh_token"])
    if grant is None or grant.app_id != call.app_id:
        return refused
    session = live_or_why(grant.session)
    if isinstance(session, Reply):
        return session
    if grant.answer is not None and grant.used_at is not None:
        return grant.answer if times.now() - grant.used_at < _TOLD_AGAIN else refused
    answer = judged(store, call, session)
    if answer.verdict is Verdict.AUTHENTICATED:
        grant.answer, grant.used_at = answer, times.now()
    return answer

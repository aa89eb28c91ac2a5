"""How the pretend worker ends sessions, and lists them."""

from __future__ import annotations

import secrets

from session_client import times
from session_client._pretend.planned import NotPretended, Reply
from session_client._pretend.sign_in import LASTS
from session_client._pretend.store import Call, PretendSession, Store, end, not_permitted
from session_client.contract import LogoutScope, Reason, Verdict


def status(store: Store, call: Call) -> Reply:
    """List the user's live sessions that the app shares, newest first."""
    wanted = call.payload.get("session_ref")
    live = [
        {
            "session_ref": session.session_ref,
            "apps": sorted(session.apps),
            "amr": list(session.amr),
            "device_id": session.device_id,
            "authenticated_at": times.to_wire(session.authenticated_at),
            "expires_at": times.to_wire(times.now() + LASTS),
        }
        for session in store.of(call.payload["user_id"])
        if session.ended is None
        and call.app_id in session.apps
        and wanted in {None, session.session_ref}
    ]
    return Reply(Verdict.OK, None, {"sessions": live[::-1]})


def logout(store: Store, call: Call) -> Reply:
    """End what the request names."""
    if call.payload.get("session_id") is not None:
        raise NotPretended("a logout by Mosaic's own session id", "Logout")
    in_scope = _in_scope(store, call)
    return in_scope if isinstance(in_scope, Reply) else _ended(store, call, in_scope)


def _in_scope(store: Store, call: Call) -> list[PretendSession] | Reply:
    payload, may_end_all = call.payload, "logout_user" in store.capabilities
    if payload.get("browser_token") is not None:
        session = store.by_token(payload["browser_token"])
        return [] if session is None else [session]
    if payload.get("session_ref") is not None:
        session = store.by_ref(payload["session_ref"])
        if session is None:
            return Reply(Verdict.INVALID_REQUEST, Reason.NO_SESSION.value)
        is_ours = call.app_id in session.apps and session.user_id == payload["user_id"]
        return [session] if is_ours else not_permitted()
    if payload["scope"] == LogoutScope.USER and not may_end_all:
        return not_permitted()
    device = payload.get("device_id")
    return [
        session
        for session in store.of(payload["user_id"])
        if device in {None, session.device_id} and (may_end_all or call.app_id in session.apps)
    ]


def revoke(store: Store, call: Call) -> Reply:
    """End everything of a user, also what no app has registered."""
    refusal = store.require("revoke_user")
    if refusal is not None:
        return refusal
    return _ended(store, call, store.of(call.payload["user_id"]), idp_user="confirmed")


def _ended(store: Store, call: Call, sessions: list[PretendSession], **more: str) -> Reply:
    count = sum(end(session) for session in sessions)
    receipt = {
        "receipt_id": secrets.token_hex(16),
        "sessions_ended": count,
        "idp_confirmed": count,
        "session_refs": [s.session_ref for s in sessions if call.app_id in s.apps],
        **more,
    }
    store.receipts[str(receipt["receipt_id"])] = receipt
    return Reply(Verdict.OK, None, receipt)


def receipt(store: Store, call: Call) -> Reply:
    """Tell what became of a logout."""
    known = store.receipts.get(call.payload["receipt_id"])
    if known is None:
        return Reply(Verdict.INVALID_REQUEST, Reason.NO_RECEIPT.value)
    return Reply(Verdict.OK, None, known)

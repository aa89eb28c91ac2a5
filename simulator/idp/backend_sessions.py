"""The backend session endpoints."""

from __future__ import annotations

from datetime import UTC, datetime

from simulator.controls.faults import FaultKind
from simulator.idp.errors import RefusedError, refused, session_not_found
from simulator.idp.incoming import Answer, Incoming
from simulator.idp.methods.sign_in import require_active, require_allowed
from simulator.idp.policy import Policy
from simulator.idp.records import Session, Wishes


def authenticate_session(call: Incoming) -> Answer:
    """Answer tokens for as long as the session lives, and let it live on."""
    client_id = call.client_id()
    fields = call.asked()
    session = call.state.sessions.find(fields["session_id"])
    require_active(call, call.state.users.ensure(session.user_id))
    require_allowed(call, client_id, fields)
    call.state.sessions.extend(session)
    if call.state.policy.silent_renews_auth_time:
        session.auth_time = call.state.clock.now()
    if call.spoilt_by(FaultKind.ROTATE_SESSION_ID):
        call.state.sessions.give_new_id(session)
    return Answer(200, call.state.token_body(session, client_id, Wishes.of(fields), call.plan))


def log_out_session(call: Incoming) -> Answer:
    """End one session, and its refresh tokens with it."""
    client_id = call.client_id()
    session_id = call.asked()["session_id"]
    try:
        session = call.state.sessions.find(session_id)
    except RefusedError:
        return _answer_dead_logout(call.state.policy)
    if call.state.policy.only_creator_may_log_out and client_id != session.client_id:
        raise refused(403, "Forbidden")
    call.state.sessions.end(session)
    return Answer(204)


def refresh_token(call: Incoming) -> Answer:
    """Exchange a refresh token for fresh tokens; the session's life stays as it is."""
    client_id = call.client_id()
    token = call.asked()["refresh_token"]
    session = call.state.refresh_tokens.find(token, client_id)
    require_active(call, call.state.users.ensure(session.user_id))
    body = call.state.token_body(session, client_id, plan=call.plan)
    del body["session_id"]
    if call.state.policy.rotates_refresh_tokens:
        call.state.refresh_tokens.use(token)
    else:
        body.pop("refresh_token", None)
    return Answer(200, body)


def list_sessions(call: Incoming) -> Answer:
    """Show a user's live sessions without extending them."""
    call.client_id()
    sessions = call.state.sessions.live(call.user_id())
    return Answer(200, [_describe(session, call.state.policy) for session in sessions])


def delete_sessions(call: Incoming) -> Answer:
    """End all of a user's backend sessions."""
    call.client_id()
    for session in call.state.sessions.live(call.user_id()):
        call.state.sessions.end(session)
    return Answer(204)


def delete_frontend_sessions(call: Incoming) -> Answer:
    """End all of a user's frontend sessions, which are another family."""
    call.client_id()
    count = call.state.end_frontend_sessions(call.user_id())
    return Answer(200, {"result": {"deleted_count": count}})


def _answer_dead_logout(policy: Policy) -> Answer:
    if policy.dead_logout_status == 204:  # noqa: PLR2004
        return Answer(204)
    raise session_not_found(policy.dead_logout_status)


def _describe(session: Session, policy: Policy) -> dict[str, object]:
    return {
        "session_id": session.session_id,
        "start_time": _write_time(session.started_at, policy),
        "expiration_time": _write_time(session.expires_at, policy),
    }


def _write_time(seconds: float, policy: Policy) -> int | str:
    match policy.session_times:
        case "seconds":
            return int(seconds)
        case "milliseconds":
            return int(seconds * 1000)
        case _:
            return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")

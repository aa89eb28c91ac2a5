"""What every method shares: whose proof it is, which session it joins, the tokens at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from secrets import compare_digest
from typing import Any

from simulator.controls.faults import FaultKind
from simulator.idp.errors import RefusedError, envelope, refused
from simulator.idp.incoming import Answer, Incoming
from simulator.idp.records import Session, User, Wishes


@dataclass(frozen=True)
class Proof:
    """A user has just proved who they are."""

    user: User
    method: str  # the amr value
    approved: Mapping[str, str] | None = None  # what they approved by it


def session_to_join(call: Incoming) -> Session | None:
    """The live session the request adds a factor to, or None for a new one.

    Asked before the proof is looked at, so that a dead session uses no code up.
    """
    session_id = call.fields.get("session_id")
    if session_id is None:
        return None
    try:
        return call.state.sessions.find(session_id)
    except RefusedError:
        raise call.refused(400, "Session not found") from None


def require_right(
    call: Incoming, user: User | None, method: str, is_right: Callable[[User], bool]
) -> User:
    """The user, if their proof is right; what is wrong is counted and may lock them out."""
    if user is None:
        raise wrong_proof(call)
    attempts = call.state.attempts
    if attempts.is_locked(user.user_id, method):
        raise locked(call.state.policy.locked_answer)
    if not is_right(user):
        attempts.fail(user.user_id, method)
        raise wrong_proof(call)
    attempts.succeed(user.user_id, method)
    return user


def is_same(given: str, right: str) -> bool:
    """Whether two secrets are one. JSON can write lone surrogates, so these are no error here."""
    return compare_digest(*(text.encode("utf-8", "surrogatepass") for text in (given, right)))


def wrong_proof(call: Incoming) -> RefusedError:
    """The refusal of a wrong password, code or signature, where Mosaic documents none."""
    return call.refused(call.state.policy.wrong_proof_status, "Invalid credentials")


def locked(answer: Mapping[str, object] | None = None) -> RefusedError:
    """The answer to too many wrong proofs. Without *answer* the one documented, of passcodes."""
    documented = envelope(403, "Too many failed attempts", "auth_locked")
    return RefusedError(403, answer or documented, is_invented=answer is not None)


def require_active(call: Incoming, user: User) -> None:
    """Refuse a user whom the tenant has suspended with 403."""
    if not user.is_active:
        raise call.refused(403, "User is not active", "user_not_active")


def require_allowed(call: Incoming, client_id: str, fields: Mapping[str, Any]) -> None:
    """Refuse a resource that is not configured for the app with 400."""
    client, resource = call.state.clients.get(client_id), fields.get("resource")
    if client is None or client.resources is None or resource is None:
        return
    if resource not in client.resources:
        raise call.refused(400, "resource is not configured for this app")


def sign_in(call: Incoming, client_id: str, proof: Proof, joined: Session | None) -> Answer:
    """Tokens, in the session to join or in a new one."""
    require_active(call, proof.user)
    require_allowed(call, client_id, call.fields)
    session = _session(call, client_id, proof, joined)
    wishes = Wishes.of(call.fields, proof.approved)
    return Answer(200, call.state.token_body(session, client_id, wishes, call.plan))


def _session(call: Incoming, client_id: str, proof: Proof, joined: Session | None) -> Session:
    if joined is None:
        return call.state.sessions.open(proof.user.user_id, client_id, [proof.method])
    if joined.user_id != proof.user.user_id:
        raise refused(400, "Session belongs to another user")
    call.state.sessions.add_method(joined, proof.method)
    if call.spoilt_by(FaultKind.ROTATE_SESSION_ID):
        call.state.sessions.give_new_id(joined)
    return joined

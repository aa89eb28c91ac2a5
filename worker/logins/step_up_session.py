"""The session that a factor is to be added to: what this browser's own token names, and no other.

A reference would let a page that takes it from a link raise an attacker's session by the victim's
code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Select, bindparam, select

from models import BrowserToken, TokenOrigin
from session_client.contract import Reason, Verdict
from worker.errors import LoginRefused
from worker.logins.login_handle import LoginHandle
from worker.requests.command_fields import Command
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import browser_tokens, queries
from worker.sessions.browser_tokens import Presented
from worker.sessions.queries import Session
from worker.wiring import Services

_NEWER_FACTOR: Final[Select[*tuple[bytes]]] = (
    select(BrowserToken.token_hash)
    .where(
        BrowserToken.idp_session_id == bindparam("session", type_=BrowserToken.idp_session_id.type),
        BrowserToken.origin == TokenOrigin.FACTOR.value,
        BrowserToken.issued_at >= bindparam("since", type_=BrowserToken.issued_at.type),
    )
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Raised:
    """A live session whose browser has said so, and whether its token is the newest."""

    session: Session
    is_newest: bool = True


def find_raised(
    services: Services, request: OpenedRequest[Command], token: str | None
) -> Raised | Outcome | None:
    """Return the session that *token* names; None without a token.

    A token that was replaced a moment ago by a factor of another tab still counts, so that two
    tabs at once may both add theirs.
    """
    if token is None:
        return None
    presented = browser_tokens.find(services, token)
    if presented is None or not services.apps.is_of_same_mosaic(
        request.app, presented.session.registered_by
    ):
        return Outcome(Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    why_not = queries.why_unusable(services.settings, presented.session, services.now())
    if why_not is not None:
        return Outcome(Verdict.LOGIN_REQUIRED, why_not)
    if presented.replaced_at is None:
        return Raised(presented.session)
    return _just_replaced(services, presented)


def _just_replaced(services: Services, presented: Presented) -> Raised | Outcome:
    if presented.replaced_at is None or (
        services.now() - presented.replaced_at >= browser_tokens.JUST_REPLACED
    ):
        return Outcome(Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    if not _lost_to_a_factor(services, presented):
        return Outcome(Verdict.LOGIN_REQUIRED, Reason.TOKEN_REPLACED)
    return Raised(presented.session, is_newest=False)


def require_same(handle: LoginHandle, raised: Raised | None) -> None:
    """Raise `LoginRefused` unless handle and browser are about one session, or about none."""
    named = None if raised is None else str(raised.session.id)
    if handle.session != named:
        raise LoginRefused(Reason.WRONG_BROWSER)


def _lost_to_a_factor(services: Services, presented: Presented) -> bool:
    parameters = {"session": presented.session.id, "since": presented.replaced_at}
    return bool(services.store.run(_NEWER_FACTOR, parameters))

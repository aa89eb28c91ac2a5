"""What the ``data`` of each answer holds, as `asyncapi` tells it to other languages.

Every answer that a test gets is held against this, so that it stays true.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from session_client import contract, times
from session_client.contract import Task, Verdict


def _is_time(text: str) -> str:
    times.from_wire(text)
    return text


Ref = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Time = Annotated[str, AfterValidator(_is_time), Field(json_schema_extra={"format": "date-time"})]
BrowserToken = Annotated[str, StringConstraints(pattern=f"^{contract.BROWSER_TOKEN_PATTERN}$")]
Count = Annotated[int, Field(ge=0)]


class Data(BaseModel):
    """What all kinds share: nothing that is not named."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class TokenSet(Data):
    """Mosaic's tokens for the app's own client; ``expires_in`` is in seconds."""

    access_token: str
    token_type: str
    expires_in: Count
    id_token: str | None = None
    refresh_token: str | None = None


class SignedIn(Data):
    """The user is signed in."""

    tokens: TokenSet
    user_id: str
    session_ref: Ref
    expires_at: Time
    amr: list[str] | None = None
    authenticated_at: Time | None = None
    browser_token: BrowserToken | None = None
    known_browser: str | None = None
    approval_data: dict[str, str] | None = None


class StepUp(Data):
    """The user is signed in, too weakly for what was asked."""

    user_id: str
    session_ref: Ref
    missing_amr: list[str]
    max_age_exceeded: bool
    amr: list[str] | None = None
    browser_token: BrowserToken | None = None
    known_browser: str | None = None


class Ended(Data):
    """The session that was named, where it has ended."""

    session_ref: Ref | None = None


class Registered(Data):
    """The session is remembered."""

    session_ref: Ref
    expires_at: Time
    browser_token: BrowserToken | None = None


class Started(Data):
    """The handle of a login that has begun, and what there is to show or to pass on."""

    login: str
    expires_in: Count
    code: str | None = None
    state: str | None = None
    authorization_url: str | None = None
    challenge: str | None = None
    claims: dict[str, Any] | None = None
    options: dict[str, Any] | None = None


class Ticket(Data):
    """Where to send the browser, and with what; ``expires_in`` is in seconds."""

    ticket: str
    transfer_url: str
    expires_in: Count


class KnownSession(Data):
    """One live session as the store knows it."""

    session_ref: Ref
    apps: list[str]
    amr: list[str]
    device_id: str | None = None
    authenticated_at: Time
    expires_at: Time


class Sessions(Data):
    """The user's live sessions that the app shares, the newest first."""

    sessions: Annotated[list[KnownSession], Field(max_length=100)]


class Receipt(Data):
    """What became of a logout."""

    receipt_id: Ref | None = None
    sessions_ended: Count
    idp_confirmed: Count = 0
    idp_pending: Count = 0
    idp_unconfirmed: Count = 0
    idp_failed: Count = 0
    idp_user: Literal["pending", "confirmed", "failed"] | None = None
    apps_confirmed: list[str] | None = None
    apps_pending: list[str] | None = None
    apps_failed: list[str] | None = None
    session_refs: Annotated[list[Ref], Field(max_length=contract.MAX_SESSION_REFS)] | None = None


class About(Data):
    """What the app may do, and what logout tokens for it are verified with (a JWK set)."""

    app_id: str
    capabilities: list[str]
    methods: list[str]
    notice_issuer: str | None = None
    notice_audience: str
    notice_keys: list[dict[str, Any]]


class Nothing(Data):
    """It holds nothing."""


_SIGNS_IN: Final[dict[Verdict, type[Data]]] = {
    Verdict.AUTHENTICATED: SignedIn,
    Verdict.INTERACTION_REQUIRED: StepUp,
    Verdict.LOGIN_REQUIRED: Ended,
}
DATA: Final[dict[Task, dict[Verdict, type[Data]]]] = {
    Task.REGISTER: {Verdict.OK: Registered, Verdict.LOGIN_REQUIRED: Ended},
    Task.SILENT_AUTH: _SIGNS_IN,
    Task.START: {Verdict.OK: Started, Verdict.LOGIN_REQUIRED: Ended},
    Task.AUTHENTICATE: _SIGNS_IN,
    Task.REFRESH: _SIGNS_IN,
    Task.TICKET: {Verdict.OK: Ticket, Verdict.LOGIN_REQUIRED: Ended},
    Task.STATUS: {Verdict.OK: Sessions},
    Task.LOGOUT: {Verdict.OK: Receipt},
    Task.REVOKE_USER: {Verdict.OK: Receipt},
    Task.RECEIPT: {Verdict.OK: Receipt},
    Task.CONFIRM_NOTICE: {},
    Task.ABOUT: {Verdict.OK: About},
}


def data_of(task: Task, verdict: Verdict) -> type[Data]:
    """Return what the data of an answer to *task* holds with *verdict*."""
    return DATA[task].get(verdict, Nothing)

"""The login methods: one table, from which client, contract page and the worker's checks follow.

A step of a method is a frozen dataclass whose fields say what they may hold. The first step of a
login, if it has one, is a `FirstStep` and goes to `SessionClient.start`; what completes it is a
`Proof` and goes to `SessionClient.authenticate`. What a step is called at Mosaic, and where, is the
worker's business alone.

>>> Password("ada", "correct horse")
Password(username='ada', username_type='username')
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from session_client.begun import (
    Begun,
    CodeIssued,
    CodeSent,
    LinkIssued,
    LinkSent,
    SocialBegun,
    SocialVerified,
    TotpTransactionBegun,
    WebauthnBegun,
)
from session_client.contract import Method
from session_client.login_steps import (
    FirstStep,
    LoginStep,
    Proof,
    Step,
    identifier,
    identifier_type,
    text,
    typed_code,
)


@dataclass(frozen=True, slots=True)
class Password(Proof):
    """A name and a password. Every character is legal in a password, also control characters."""

    method: ClassVar[Method] = Method.PASSWORD
    username: str = text(255)
    password: str = text(4096, is_secret=True, takes_any_character=True)
    username_type: str = text(64, default="username", one_of=("username", "email", "phone_number"))


@dataclass(frozen=True, slots=True)
class Code(Proof):
    """The code that `SendOtp` or `IssueOtp` made."""

    method: ClassVar[Method] = Method.OTP
    needs_login: ClassVar[bool] = True
    code: str = typed_code()


@dataclass(frozen=True, slots=True)
class SendOtp(FirstStep[CodeSent]):
    """Have a code sent to the user, by text message or mail."""

    method: ClassVar[Method] = Method.OTP
    step: ClassVar[Step] = Step.START
    gives: ClassVar[type[Begun]] = CodeSent
    next_step: ClassVar[type[LoginStep]] = Code
    takes_approval_data: ClassVar[bool] = True
    channel: str = text(16, one_of=("sms", "email"))
    identifier: str | None = identifier()
    identifier_type: str | None = identifier_type()


@dataclass(frozen=True, slots=True)
class IssueOtp(FirstStep[CodeIssued]):
    """Have a code made and handed to this app, to bring to the user by a way of its own."""

    method: ClassVar[Method] = Method.OTP_DIRECT
    step: ClassVar[Step] = Step.START
    gives: ClassVar[type[Begun]] = CodeIssued
    next_step: ClassVar[type[LoginStep]] = Code
    takes_approval_data: ClassVar[bool] = True
    identifier: str | None = identifier()
    identifier_type: str | None = identifier_type()


@dataclass(frozen=True, slots=True)
class Link(Proof):
    """What the address of a link held when it was opened: its ``code`` and ``state``."""

    method: ClassVar[Method] = Method.LINK
    needs_login: ClassVar[bool] = True
    code: str = text(2048, is_secret=True, takes_any_character=True)
    state: str = text(255, is_secret=True, takes_any_character=True)


@dataclass(frozen=True, slots=True)
class SendLink(FirstStep[LinkSent]):
    """Have a link mailed to the user, that leads back to *redirect_uri*."""

    method: ClassVar[Method] = Method.LINK
    step: ClassVar[Step] = Step.START
    gives: ClassVar[type[Begun]] = LinkSent
    next_step: ClassVar[type[LoginStep]] = Link
    redirect_uri: str = text(2048)
    identifier: str | None = identifier()
    identifier_type: str | None = identifier_type()


@dataclass(frozen=True, slots=True)
class IssueLink(FirstStep[LinkIssued]):
    """Have a link made and handed to this app, to bring to the user by a way of its own."""

    method: ClassVar[Method] = Method.LINK_DIRECT
    step: ClassVar[Step] = Step.START
    gives: ClassVar[type[Begun]] = LinkIssued
    next_step: ClassVar[type[LoginStep]] = Link
    redirect_uri: str = text(2048)
    identifier: str | None = identifier()
    identifier_type: str | None = identifier_type()


@dataclass(frozen=True, slots=True)
class Totp(Proof):
    """The code that the user's authenticator app shows."""

    method: ClassVar[Method] = Method.TOTP
    code: str = typed_code()
    identifier: str | None = identifier()
    identifier_type: str | None = identifier_type()


@dataclass(frozen=True, slots=True)
class TotpTransaction(Proof):
    """The code that the user's authenticator app makes of the challenge it was shown."""

    method: ClassVar[Method] = Method.TOTP_TRANSACTION
    needs_login: ClassVar[bool] = True
    code: str = typed_code()


@dataclass(frozen=True, slots=True)
class BeginTotpTransaction(FirstStep[TotpTransactionBegun]):
    """Ask for the challenge with which the user's authenticator app approves something."""

    method: ClassVar[Method] = Method.TOTP_TRANSACTION
    step: ClassVar[Step] = Step.START
    gives: ClassVar[type[Begun]] = TotpTransactionBegun
    next_step: ClassVar[type[LoginStep]] = TotpTransaction
    takes_approval_data: ClassVar[bool] = True
    needs_approval_data: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Social(Proof):
    """Which of our users it is that the provider has proved: found by the provider's subject."""

    method: ClassVar[Method] = Method.SOCIAL
    needs_login: ClassVar[bool] = True
    # In a step-up too. Mosaic takes an account for whomever the request names: with the session's
    # user filled in, any account would be a factor of that user.
    user_id: str = text(255)


@dataclass(frozen=True, slots=True)
class VerifySocial(FirstStep[SocialVerified]):
    """What the provider sent the browser back with: its ``code`` and ``state``."""

    method: ClassVar[Method] = Method.SOCIAL
    step: ClassVar[Step] = Step.VERIFY
    needs_login: ClassVar[bool] = True
    gives: ClassVar[type[Begun]] = SocialVerified
    next_step: ClassVar[type[LoginStep]] = Social
    code: str = text(4096, is_secret=True, takes_any_character=True)
    state: str = text(255, is_secret=True, takes_any_character=True)


@dataclass(frozen=True, slots=True)
class BeginSocial(FirstStep[SocialBegun]):
    """Send the browser to a provider, that sends it back to *redirect_uri*."""

    method: ClassVar[Method] = Method.SOCIAL
    step: ClassVar[Step] = Step.START
    gives: ClassVar[type[Begun]] = SocialBegun
    next_step: ClassVar[type[LoginStep]] = VerifySocial
    provider: str = text(16, one_of=("google", "facebook", "apple", "tiktok"))
    redirect_uri: str = text(2048)


@dataclass(frozen=True, slots=True)
class Webauthn(Proof):
    """What the browser's authenticator answered, as Mosaic's SDK encodes it."""

    method: ClassVar[Method] = Method.WEBAUTHN
    needs_login: ClassVar[bool] = True
    result: str = text(32_768, is_secret=True)


@dataclass(frozen=True, slots=True)
class BeginWebauthn(FirstStep[WebauthnBegun]):
    """Ask for what the browser's authenticator is to sign; without a name, for any passkey.

    Security keys that are not discoverable answer only with the user's name, also in a step-up.
    There the worker sees to it that the key is of the session's own user.
    """

    method: ClassVar[Method] = Method.WEBAUTHN
    step: ClassVar[Step] = Step.START
    gives: ClassVar[type[Begun]] = WebauthnBegun
    next_step: ClassVar[type[LoginStep]] = Webauthn
    takes_approval_data: ClassVar[bool] = True
    username: str | None = text(64, default=None)


@dataclass(frozen=True, slots=True)
class MobileBiometrics(Proof):
    """A challenge signed by a key that the user's phone keeps behind face or finger."""

    method: ClassVar[Method] = Method.MOBILE_BIOMETRICS
    challenge: str = text(4096, is_secret=True)
    signature: str = text(4096, is_secret=True)
    key_id: str = text(255)
    user_id: str | None = identifier()


TABLE: Final[tuple[type[LoginStep], ...]] = (
    Password,
    SendOtp,
    IssueOtp,
    Code,
    SendLink,
    IssueLink,
    Link,
    Totp,
    BeginTotpTransaction,
    TotpTransaction,
    BeginSocial,
    VerifySocial,
    Social,
    BeginWebauthn,
    Webauthn,
    MobileBiometrics,
)


_BY_NAME: Final = {(step.method.value, step.step.value): step for step in TABLE}


def step_of(method: str, step: str) -> type[LoginStep] | None:
    """Return the step of that name; None when there is no such one."""
    return _BY_NAME.get((method, step))

"""The calls of the login methods, as one table: where each goes, what it carries, what it gives.

Source: "The methods" in the sheet of methods. Nothing undocumented is sent: whether Mosaic refuses
what it does not know is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from session_client import contract, methods, sealing
from session_client.login_steps import LoginStep
from worker.errors import MosaicContractBroken
from worker.mosaic.asked import Endpoint
from worker.mosaic.types import MosaicApp
from worker.storage.texts import is_storable

# Sealed it becomes a third larger, and what else the answer says is short.
_MAX_SHOWN_CHARACTERS: Final = contract.MAX_ANSWER_BYTES // 2
# In JSON. A transaction comes back in the login's handle, which is refused where it is longer than
# a request may bring; browsers are led to no longer addresses.
_MAX_TEXT_BYTES: Final = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFacts:
    """What a step is sent with beside its own fields: from the login's handle, or the session."""

    identifier: str | None = None
    identifier_type: str | None = None
    state: str | None = field(default=None, repr=False)
    provider: str | None = None
    transaction: str | None = field(default=None, repr=False)
    approval_data: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a first step gives: what there is to show, and what is only to be kept."""

    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    transaction: str | None = field(default=None, repr=False)


Sent = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoginCall:
    """One row of the table."""

    endpoint: Endpoint
    fields: Callable[[Any, LoginFacts, MosaicApp], Sent]
    shown: Callable[[Mapping[str, Any]], Shown] | None = None  # of a first step
    path: str | None = None  # where it is not the endpoint's name
    needs_client_token: bool = True
    # Of a proof: whether Mosaic is told who signs in, so that no other user's is accepted.
    proves_name: bool = True
    takes_browser: bool = False  # client_attributes, of a first step
    takes_device_id: bool = False  # it is on the pages of these calls alone
    may_be_repeated: bool = False  # it uses nothing up and sends nothing

    def path_for(self, facts: LoginFacts) -> str:
        """Return the path under ``/cis/v1/auth``."""
        return (self.path or str(self.endpoint)).format(provider=facts.provider)


def _identifiers(facts: LoginFacts) -> Sent:
    return {"identifier": facts.identifier, "identifier_type": facts.identifier_type}


def _link_identifiers(facts: LoginFacts) -> Sent:
    # `email` is older and deprecated; until 2026 there was nothing else.
    if facts.identifier_type == "email":
        return {"email": facts.identifier}
    return _identifiers(facts)


def _password(step: methods.Password, _: LoginFacts, __: MosaicApp) -> Sent:
    return {
        "username": step.username,
        "password": step.password,
        "username_type": step.username_type,
    }


def _approval(facts: LoginFacts) -> Sent:
    return {"approval_data": facts.approval_data}


def _send_otp(step: methods.SendOtp, facts: LoginFacts, _: MosaicApp) -> Sent:
    return {"channel": step.channel, **_identifiers(facts), **_approval(facts)}


def _issue_otp(_: methods.IssueOtp, facts: LoginFacts, __: MosaicApp) -> Sent:
    return {"channel": "direct", **_identifiers(facts), **_approval(facts)}


def _code(step: methods.Code, facts: LoginFacts, _: MosaicApp) -> Sent:
    return {"passcode": step.code, **_identifiers(facts)}


def _send_link(step: methods.SendLink, facts: LoginFacts, _: MosaicApp) -> Sent:
    return {
        "redirect_uri": step.redirect_uri,
        "state": facts.state,
        **_link_identifiers(facts),
    }


def _issue_link(step: methods.IssueLink, facts: LoginFacts, _: MosaicApp) -> Sent:
    return {
        "redirect_uri": step.redirect_uri,
        "state": facts.state,
        "channel": "direct",
        **_link_identifiers(facts),
    }


def _link(step: methods.Link, _: LoginFacts, __: MosaicApp) -> Sent:
    return {"code": step.code}


def _totp(step: methods.Totp, facts: LoginFacts, _: MosaicApp) -> Sent:
    return {"token": step.code, **_identifiers(facts)}


def _begin_totp_transaction(
    _: methods.BeginTotpTransaction, facts: LoginFacts, __: MosaicApp
) -> Sent:
    return {**_identifiers(facts), **_approval(facts)}


def _totp_transaction(step: methods.TotpTransaction, facts: LoginFacts, _: MosaicApp) -> Sent:
    return {"token": step.code, **_identifiers(facts)}


def _begin_social(step: methods.BeginSocial, facts: LoginFacts, _: MosaicApp) -> Sent:
    return {"redirect_uri": step.redirect_uri, "state": facts.state}


def _verify_social(step: methods.VerifySocial, facts: LoginFacts, _: MosaicApp) -> Sent:
    return {"code": step.code, "state": facts.state}


def _social(_: methods.Social, facts: LoginFacts, __: MosaicApp) -> Sent:
    return {"transaction_id": facts.transaction, "user_id": facts.identifier}


def _begin_webauthn(step: methods.BeginWebauthn, facts: LoginFacts, app: MosaicApp) -> Sent:
    return {"client_id": app.client_id, "username": step.username, **_approval(facts)}


def _webauthn(step: methods.Webauthn, _: LoginFacts, __: MosaicApp) -> Sent:
    return {"webauthn_encoded_result": step.result}


def _biometrics(step: methods.MobileBiometrics, facts: LoginFacts, _: MosaicApp) -> Sent:
    return {
        "signature": step.signature,
        "challenge": step.challenge,
        "key_id": step.key_id,
        "user_id": facts.identifier,
    }


def _nothing(_: Mapping[str, Any]) -> Shown:
    return Shown()


def _issued_code(body: Mapping[str, Any]) -> Shown:
    return Shown({"code": _text(body, "code")})


def _begun_social(body: Mapping[str, Any]) -> Shown:
    return Shown({"authorization_url": _text(body, "authorization_url")})


def _verified_social(body: Mapping[str, Any]) -> Shown:
    return Shown({"claims": _object(body, "claims")}, _text(body, "transaction_id"))


def _begun_totp_transaction(body: Mapping[str, Any]) -> Shown:
    return Shown({"challenge": _text(body, "challenge")})


def _webauthn_options(body: Mapping[str, Any]) -> Shown:
    _object(body, "credential_request_options")
    # Whole: what the browser is to encode is this call's id beside what its authenticator signed.
    return Shown({"options": _object({"body": body}, "body")})


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value or not _is_plain(value):
        raise _broken(name)
    return value


def _is_plain(text: str) -> bool:
    """Whether a text can be kept in a handle and an app be answered with it."""
    return (
        is_storable(text) and len(json.dumps(text, ensure_ascii=False).encode()) <= _MAX_TEXT_BYTES
    )


def _object(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if not isinstance(value, dict) or not _is_sendable(value):
        raise _broken(name)
    return value


def _is_sendable(value: dict[str, Any]) -> bool:
    """Whether an app can be answered with it: Python reads more than JSON can write."""
    try:
        text = json.dumps({"data": {"shown": value}}, allow_nan=False)
        sealing.json_object(text)
    except (ValueError, RecursionError):
        return False
    return len(text) <= _MAX_SHOWN_CHARACTERS


def _broken(name: str) -> MosaicContractBroken:
    return MosaicContractBroken(f"first step of a login: {name} is missing or of the wrong type")


CALLS: Final[Mapping[type[LoginStep], LoginCall]] = {
    methods.Password: LoginCall(Endpoint.PASSWORD_PROOF, _password),
    methods.SendOtp: LoginCall(
        Endpoint.OTP_SEND, _send_otp, _nothing, takes_browser=True, takes_device_id=True
    ),
    methods.IssueOtp: LoginCall(
        Endpoint.OTP_SEND, _issue_otp, _issued_code, takes_browser=True, takes_device_id=True
    ),
    methods.Code: LoginCall(Endpoint.OTP_PROOF, _code, takes_device_id=True),
    methods.SendLink: LoginCall(
        Endpoint.LINK_SEND, _send_link, _nothing, takes_browser=True, takes_device_id=True
    ),
    methods.IssueLink: LoginCall(
        Endpoint.LINK_SEND, _issue_link, _issued_code, takes_browser=True, takes_device_id=True
    ),
    methods.Link: LoginCall(Endpoint.LINK_PROOF, _link, proves_name=False, takes_device_id=True),
    methods.Totp: LoginCall(Endpoint.TOTP_PROOF, _totp, takes_device_id=True),
    methods.BeginTotpTransaction: LoginCall(
        Endpoint.TOTP_TRANSACTION_START,
        _begin_totp_transaction,
        _begun_totp_transaction,
        may_be_repeated=True,
    ),
    methods.TotpTransaction: LoginCall(
        Endpoint.TOTP_TRANSACTION_PROOF, _totp_transaction, takes_device_id=True
    ),
    methods.BeginSocial: LoginCall(
        Endpoint.SOCIAL_START,
        _begin_social,
        _begun_social,
        "social/{provider}/start",
        may_be_repeated=True,
    ),
    methods.VerifySocial: LoginCall(
        Endpoint.SOCIAL_VERIFY, _verify_social, _verified_social, "social/{provider}/verify"
    ),
    methods.Social: LoginCall(
        Endpoint.SOCIAL_PROOF, _social, path="social/{provider}/authenticate"
    ),
    methods.BeginWebauthn: LoginCall(
        Endpoint.WEBAUTHN_START,
        _begin_webauthn,
        _webauthn_options,
        needs_client_token=False,
        may_be_repeated=True,
    ),
    methods.Webauthn: LoginCall(Endpoint.WEBAUTHN_PROOF, _webauthn, proves_name=False),
    methods.MobileBiometrics: LoginCall(
        Endpoint.BIOMETRICS_PROOF, _biometrics, takes_device_id=True
    ),
}

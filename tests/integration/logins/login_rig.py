"""Ada signs in by whatever she has, from an app's request to Mosaic and back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from session_client import contract, logins, methods, requests, sealing
from session_client.contract import Method, Reason, Verdict
from session_client.login_steps import FirstStep, Proof
from simulator.controls.devices import PasskeyDevice, Phone, totp_code, visit_provider
from simulator.idp.endpoints import Endpoint
from tests.heard import Heard
from tests.stage import Sent, Stage
from worker import wiring
from worker.mosaic.deadline import Deadline
from worker.wiring import Services

BACK = "https://shop.example/back"
MAIL = ("ada@example.com", "email")
PHONE = ("+100", "phone_number")
PASSWORD = "correct horse \x00\x1b \U0001f40e battery"
ALL = [method.value for method in Method]


def furnish(stage: Stage, **policy: Any) -> None:
    """Let there be two apps, both granted everything, and ada and bob at Mosaic."""
    stage.add_app("shop", methods=tuple(ALL), silent_by_user=False)
    stage.add_app("forum", methods=tuple(ALL), silent_by_user=False, **policy)
    state = stage.mosaic.state
    state.add_user("ada", password=PASSWORD, email=MAIL[0], phone=PHONE[0])
    state.add_user("bob", password="bob's", email="bob@example.com", phone="+200")


@dataclass
class Reply:
    """An answer as it came over the wire."""

    verdict: Verdict
    reason: Reason | None
    data: dict[str, Any] = field(repr=False)
    retry_after: float | None = None
    detail: str | None = None

    def __getitem__(self, name: str) -> Any:
        return self.data[name]


def reply_to(stage: Stage, sent: Sent) -> Reply:
    """Run the task and read what it answered."""
    stage.run(sent)
    return reply_of(stage, sent)


def reply_of(stage: Stage, sent: Sent) -> Reply:
    """Read the next answer to a request."""
    app_id = sent.kwargs["app_id"]
    raw: Any = stage.redis.lpop(contract.reply_key(app_id, sent.request_id))
    content = sealing.unseal(raw.decode(), sealing.Kind.ANSWER, lambda _: stage.keys[app_id])
    reason = content.get("reason")
    return Reply(
        Verdict(content["verdict"]),
        None if reason is None else Reason(reason),
        content.get("data", {}),
        content.get("retry_after"),
        content.get("detail"),
    )


def begin(stage: Stage, step: FirstStep[Any], app_id: str = "shop", **fields: Any) -> Reply:
    return reply_to(stage, stage.seal(app_id, logins.Start(step=step, **fields)))


def prove(stage: Stage, proof: Proof, app_id: str = "shop", **fields: Any) -> Heard:
    answer: Heard = stage.ask(app_id, logins.Authenticate(proof=proof, **fields))
    return answer


@contextmanager
def restarted(stage: Stage, **settings: Any) -> Iterator[Services]:
    """Let another process serve the requests, which knows nothing yet but what is stored."""
    services = wiring.build(stage.settings.model_copy(update=settings), now=stage.now)
    try:
        with wiring.use(services):
            yield services
    finally:
        services.close()


@contextmanager
def new_keys_that_do_not_come(stage: Stage, services: Services) -> Iterator[None]:
    """Let Mosaic sign with another key, of which the process is waiting to hear."""
    app = services.apps.find("shop")
    assert app is not None
    key_sets, url = services.mosaic._id_tokens.key_sets, app.mosaic.jwks_url
    key_sets.current(url, Deadline.after(60))
    stage.mosaic.state.rotate_keys(keep_old=False)
    with (
        stage.mosaic.state.gates.hold(Endpoint.JWKS) as gate,
        stage.meanwhile(lambda: key_sets.fetch(url, Deadline.after(60))) as fetched,
    ):
        gate.wait_arrived()
        yield
        gate.release()
        fetched.result(timeout=60)


def log_in(stage: Stage, app_id: str = "shop", **fields: Any) -> Heard:
    """Sign ada in by password."""
    return prove(stage, methods.Password("ada", PASSWORD), app_id, **fields)


def browse(stage: Stage, token: str | None, app_id: str = "forum") -> Heard:
    answer: Heard = stage.ask(app_id, requests.SilentAuth(browser_token=token))
    return answer


def last_code(stage: Stage) -> str:
    return stage.mosaic.state.outbox.latest("ada").code


def calls(stage: Stage) -> int:
    """How many calls Mosaic has got, of all kinds."""
    return stage.mosaic.state.calls.count()


# Each way to sign in, as a login or, with `step_up`, as one more factor.


def _named(fields: dict[str, Any], *names: str) -> tuple[str, ...]:
    return () if "step_up" in fields else names


def _start_only(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in ("step_up",) if name in fields}


def by_password(stage: Stage, **fields: Any) -> Heard:
    return log_in(stage, **fields)


def by_code(stage: Stage, channel: str, whom: tuple[str, str], **fields: Any) -> Any:
    step = methods.SendOtp(channel, *_named(fields, *whom))
    handle = begin(stage, step, **_start_only(fields))["login"]
    return prove(stage, methods.Code(last_code(stage)), login=handle, **fields)


def by_sms(stage: Stage, **fields: Any) -> Heard:
    answer: Heard = by_code(stage, "sms", PHONE, **fields)
    return answer


def by_mail(stage: Stage, **fields: Any) -> Heard:
    answer: Heard = by_code(stage, "email", MAIL, **fields)
    return answer


def by_direct_code(stage: Stage, **fields: Any) -> Heard:
    step = methods.IssueOtp(*_named(fields, *MAIL))
    begun = begin(stage, step, **_start_only(fields))
    return prove(stage, methods.Code(begun["code"]), login=begun["login"], **fields)


def by_link(stage: Stage, **fields: Any) -> Heard:
    begun = begin(stage, methods.SendLink(BACK, *_named(fields, *MAIL)), **_start_only(fields))
    proof = methods.Link(last_code(stage), begun["state"])
    return prove(stage, proof, login=begun["login"], **fields)


def by_direct_link(stage: Stage, **fields: Any) -> Heard:
    begun = begin(stage, methods.IssueLink(BACK, *_named(fields, *MAIL)), **_start_only(fields))
    proof = methods.Link(begun["code"], begun["state"])
    return prove(stage, proof, login=begun["login"], **fields)


def by_totp(stage: Stage, **fields: Any) -> Heard:
    secret = stage.mosaic.state.authenticator_apps.enrol("ada")["secret"]
    code = totp_code(secret, stage.mosaic.state.clock.now())
    return prove(stage, methods.Totp(code, *_named(fields, *MAIL)), **fields)


def by_approval(stage: Stage, step_up: str, **fields: Any) -> Heard:
    """Approve something by an authenticator app: as one more factor alone."""
    begun, proof = ask_by_app(stage, step_up, approval_data={"payee": "bob"})
    return prove(stage, proof, login=begun["login"], step_up=step_up, **fields)


def ask_by_app(stage: Stage, token: str, **asked: Any) -> tuple[Reply, methods.TotpTransaction]:
    """Ask ada to approve by her authenticator app; what proves that she does."""
    secret = stage.mosaic.state.authenticator_apps.enrol("ada")["secret"]
    begun = begin(stage, methods.BeginTotpTransaction(), step_up=token, **asked)
    code = totp_code(secret, stage.mosaic.state.clock.now(), begun["challenge"])
    return begun, methods.TotpTransaction(code)


def by_social(stage: Stage, provider: str = "google", **fields: Any) -> Heard:
    _, verified = visit(stage, provider, **fields)
    assert verified["claims"] == {"sub": "ada-there"}
    return prove(stage, methods.Social("ada"), login=verified["login"], **fields)


def visit(stage: Stage, provider: str = "google", **fields: Any) -> tuple[Reply, Reply]:
    """Go to the provider and back; what `start` and `verify` answered."""
    stage.mosaic.state.social.add_account(provider, "ada-there")
    begun = begin(stage, methods.BeginSocial(provider, BACK), **_start_only(fields))
    brought = visit_provider(begun["authorization_url"], "ada-there")
    step = methods.VerifySocial(brought["code"], brought["state"])
    return begun, begin(stage, step, login=begun["login"], **_start_only(fields))


def by_passkey(stage: Stage, **fields: Any) -> Heard:
    return by_key(stage, PasskeyDevice(), None, **fields)


def by_security_key(stage: Stage, **fields: Any) -> Heard:
    return by_key(stage, PasskeyDevice(is_discoverable=False), "ada", **fields)


def by_key(
    stage: Stage, device: PasskeyDevice, username: str | None, owner: str = "ada", **fields: Any
) -> Heard:
    stage.mosaic.state.passkeys.register(owner, device.credential_id, device.public_key)
    begun = begin(stage, methods.BeginWebauthn(username), **_start_only(fields))
    proof = methods.Webauthn(device.answer(begun["options"]))
    return prove(stage, proof, login=begun["login"], **fields)


def by_phone(stage: Stage, **fields: Any) -> Heard:
    number = secrets.token_hex(4)  # phones and what they sign serve once
    phone, made = Phone(f"phone-{number}"), f"made by the phone {number}"
    stage.mosaic.state.biometrics.register("ada", phone.key_id, phone.public_key)
    signed = (made, phone.sign(made), phone.key_id)
    proof = methods.MobileBiometrics(*signed, *_named(fields, "ada"))
    return prove(stage, proof, **fields)


WAYS: dict[str, tuple[Callable[..., Heard], str, str]] = {
    "password": (by_password, "password", "pwd"),
    "a code by text message": (by_sms, "otp", "sms"),
    "a code by mail": (by_mail, "otp", "eotp"),
    "a code that the app brings": (by_direct_code, "otp_direct", "otp"),
    "a link": (by_link, "link", "eml"),
    "a link that the app brings": (by_direct_link, "link_direct", "eml"),
    "an authenticator app": (by_totp, "totp", "totp"),
    "a social provider": (by_social, "social", "social"),
    "a passkey": (by_passkey, "webauthn", "webauthn"),
    "a security key": (by_security_key, "webauthn", "webauthn"),
    "a phone": (by_phone, "mobile_biometrics", "mobile_biometrics"),
}
FACTORS = WAYS | {
    "an approval in an authenticator app": (by_approval, "totp_transaction", "totp"),
}
TWO_STEPS = [
    name
    for name, (_, method, _amr) in WAYS.items()
    if method not in {"password", "totp", "mobile_biometrics"}
]

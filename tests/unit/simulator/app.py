"""An app that talks to the simulator as Mosaic's pages say, by every method they show."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import KeySet

from simulator.controls.devices import PasskeyDevice, Phone, totp_code, visit_provider
from simulator.server import SimulatorServer

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx would load all root certificates
AUTH = "/cis/v1/auth"
EMAIL = {"identifier": "ada@example.com", "identifier_type": "email"}
PHONE = {"identifier": "+100", "identifier_type": "phone_number"}
BACK = "https://shop.example/back"


class App:
    """One app with a client token of its own; ada proves herself to it by whatever she has."""

    def __init__(self, server: SimulatorServer, client_id: str = "shop") -> None:
        self.state = server.state
        self.client_id = client_id
        self.state.add_client(client_id, "secret")
        self.http = httpx.Client(base_url=server.url, trust_env=False, verify=NO_TLS)
        form = {"grant_type": "client_credentials", "client_id": client_id}
        answer = self.http.post("/oidc/token", data={**form, "client_secret": "secret"})
        self.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def post(self, path: str, **fields: Any) -> httpx.Response:
        return self.http.post(f"{AUTH}/{path}", json=fields)

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token that verifies against the published keys."""
        keys = KeySet.import_key_set(self.http.get("/cis/oidc/jwks").json())
        return jwt.decode(token, keys, algorithms=["RS256", "PS256"]).claims

    def amr(self, answer: httpx.Response) -> list[str]:
        assert answer.status_code == 200, answer.text
        return list(self.claims(answer.json()["id_token"])["amr"])

    # Every method, from nothing to its answer.

    def password(self, **more: Any) -> httpx.Response:
        self.state.change_user("ada", password="pw")
        return self.post("password/authenticate", username="ada", password="pw", **more)

    def email_code(self, **more: Any) -> httpx.Response:
        self.post("otp/send", channel="email", **EMAIL)
        return self.post("otp/authenticate", passcode=self.code(), **EMAIL, **more)

    def sms_code(self, **more: Any) -> httpx.Response:
        self.post("otp/send", channel="sms", **PHONE)
        return self.post("otp/authenticate", passcode=self.code(), **PHONE, **more)

    def direct_code(self, **more: Any) -> httpx.Response:
        code = self.post("otp/send", channel="direct", **EMAIL).json()["code"]
        return self.post("otp/authenticate", passcode=code, **EMAIL, **more)

    def link(self, **more: Any) -> httpx.Response:
        self.post("link/email/send", redirect_uri=BACK, **EMAIL)
        return self.post("link/email/authenticate", code=self.code(), **more)

    def direct_link(self, **more: Any) -> httpx.Response:
        sent = self.post("link/email/send", redirect_uri=BACK, channel="direct", **EMAIL)
        return self.post("link/email/authenticate", code=sent.json()["code"], **more)

    def totp(self, **more: Any) -> httpx.Response:
        code = totp_code(self.secret(), self.state.clock.now())
        return self.post("totp/authenticate", token=code, identifier="ada@example.com", **more)

    def totp_transaction(self, **more: Any) -> httpx.Response:
        secret, approved = self.secret(), {"sum": "200"}
        started = self.post("totp/transaction/start", approval_data=approved, **EMAIL).json()
        code = totp_code(secret, self.state.clock.now(), started["challenge"])
        path = "totp/transaction/authenticate"
        return self.post(path, token=code, identifier="ada@example.com", **more)

    def social(self, provider: str = "google", **more: Any) -> httpx.Response:
        self.state.social.add_account(provider, "ada-there", email="ada@example.com")
        started = self.post(f"social/{provider}/start", redirect_uri=BACK, state="s1").json()
        brought = visit_provider(started["authorization_url"], "ada-there")
        verified = self.post(f"social/{provider}/verify", **brought).json()
        whose = {"transaction_id": verified["transaction_id"], "user_id": "ada"}
        return self.post(f"social/{provider}/authenticate", **whose, **more)

    def passkey(self, **more: Any) -> httpx.Response:
        device = PasskeyDevice()
        self.state.passkeys.register("ada", device.credential_id, device.public_key)
        started = self.post("webauthn/authenticate/start", client_id=self.client_id, username="ada")
        result = device.answer(started.json())
        return self.post("webauthn/authenticate", webauthn_encoded_result=result, **more)

    def biometrics(self, **more: Any) -> httpx.Response:
        phone = self.phone()
        challenge = self.post("mobile-biometrics/start", user_id="ada").json()["challenge"]
        proof = {"challenge": challenge, "signature": phone.sign(challenge)}
        whose = {"key_id": phone.key_id, "user_id": "ada"}
        return self.post("mobile-biometrics/authenticate", **proof, **whose, **more)

    def code(self) -> str:
        return self.state.outbox.latest("ada").code

    def secret(self) -> str:
        return self.state.authenticator_apps.enrol("ada")["secret"]

    def phone(self, *, is_rsa: bool = False) -> Phone:
        phone = Phone(f"phone-{self.state.clock.now()}", is_rsa=is_rsa)
        self.state.biometrics.register("ada", phone.key_id, phone.public_key)
        return phone


Method = Callable[..., httpx.Response]

AMR_BY_METHOD: dict[str, tuple[Method, str]] = {
    "password": (App.password, "pwd"),
    "email_code": (App.email_code, "eotp"),
    "sms_code": (App.sms_code, "sms"),
    "direct_code": (App.direct_code, "otp"),
    "link": (App.link, "eml"),
    "direct_link": (App.direct_link, "eml"),
    "totp": (App.totp, "totp"),
    "totp_transaction": (App.totp_transaction, "totp"),
    "social": (App.social, "social"),
    "passkey": (App.passkey, "webauthn"),
    "biometrics": (App.biometrics, "mobile_biometrics"),
}

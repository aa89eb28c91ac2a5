from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from simulator.controls.devices import PasskeyDevice, Phone, totp_code
from simulator.controls.remote import RemoteError, RemoteSimulator
from simulator.idp.policy import DAY_SECONDS
from simulator.server import SimulatorServer

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx would load all root certificates


@pytest.fixture
def remote() -> Iterator[RemoteSimulator]:
    with SimulatorServer() as server, RemoteSimulator(server.url) as simulator:
        simulator.add_client("shop", "secret")
        simulator.add_user("ada", password="pw", email="ada@example.com")
        yield simulator


def authenticate(remote: RemoteSimulator, session_id: str) -> httpx.Response:
    return post(remote, "session/authenticate", session_id=session_id)


def test_sessions_are_moved_from_another_process(remote: RemoteSimulator) -> None:
    login = remote.login("ada", "shop", amr=["sms"])
    remote.add_factor(login.session_id, "shop", "pwd")

    (session,) = remote.live_sessions("ada")

    assert session.amr == ["sms", "pwd", "mfa"]
    assert authenticate(remote, login.session_id).status_code == 200
    remote.end_session(login.session_id)
    assert not remote.is_live(login.session_id)


def test_the_clock_moves_from_another_process(remote: RemoteSimulator) -> None:
    login = remote.login("ada", "shop")
    before = remote.clock.now()

    after = remote.clock.advance(15 * DAY_SECONDS)

    assert after - before == pytest.approx(15 * DAY_SECONDS, abs=5)
    assert not remote.is_live(login.session_id)


def test_faults_and_calls_are_managed_from_another_process(remote: RemoteSimulator) -> None:
    login = remote.login("ada", "shop")
    remote.faults.add("session/authenticate", "status", status=503)
    assert authenticate(remote, login.session_id).status_code == 503

    remote.faults.clear()
    remote.revoke_client_tokens()

    assert authenticate(remote, login.session_id).status_code == 200
    assert remote.calls.count("session/authenticate", "shop") == 2
    assert [call.status for call in remote.calls.log()] == [200, 503, 200, 200]
    remote.calls.clear()
    assert remote.calls.count() == 0


def test_a_gate_is_held_from_another_process(remote: RemoteSimulator) -> None:
    login = remote.login("ada", "shop")
    gate = remote.gates.hold("session/authenticate", before=True)

    with ThreadPoolExecutor() as pool, gate:
        answer = pool.submit(authenticate, remote, login.session_id)
        gate.wait_arrived()
        remote.end_session(login.session_id)
        gate.release()

    assert answer.result().status_code == 400


def test_the_smaller_verbs_work_from_another_process(remote: RemoteSimulator) -> None:
    remote.open_frontend_session("ada")
    remote.policy.change(issuer="https://eu.userid.security")

    assert remote.count_frontend_sessions("ada") == 1
    assert remote.rotate_keys(keep_old=False)
    assert remote.mint_id_token(forgery="alg_none", sub="eve").endswith(".")


def test_people_and_what_they_hold_are_managed_from_another_process(
    remote: RemoteSimulator,
) -> None:
    device, phone = PasskeyDevice(), Phone()

    remote.add_user("bob", username="bob", phone="+200")
    remote.change_user("bob", is_active=False)
    remote.passkeys.register("ada", device.credential_id, device.public_key)
    remote.biometrics.register("ada", phone.key_id, phone.public_key)
    remote.social.add_account("google", "12345", email="ada@example.com")
    remote.attempts.lock("ada", "pwd")
    remote.add_client("forum", "secret", redirect_uris=["https://forum.example"], resources=[])
    enrolled = remote.authenticator_apps.enrol("ada", "My phone")

    refused = post(remote, "password/authenticate", username="ada", password="pw")
    remote.attempts.unlock("ada", "pwd")
    let_in = post(remote, "password/authenticate", username="ada", password="pw")
    code = totp_code(enrolled["secret"], remote.clock.now())
    whom = {"identifier": "ada@example.com"}
    by_app = post(remote, "totp/authenticate", token=code, **whom)
    suspended = post(
        remote, "otp/send", channel="sms", identifier="+200", identifier_type="phone_number"
    )
    started = post(remote, "webauthn/authenticate/start", client_id="shop").json()
    result = device.answer(started)
    by_passkey = post(remote, "webauthn/authenticate", webauthn_encoded_result=result)

    answers = (refused, let_in, by_app, suspended, by_passkey)
    assert [answer.status_code for answer in answers] == [403, 200, 200, 403, 200]
    with pytest.raises(RemoteError, match="taken"):
        remote.add_user("eve", email="ada@example.com")


def test_messages_and_calls_are_read_from_another_process(remote: RemoteSimulator) -> None:
    whom = {"identifier": "ada@example.com", "identifier_type": "email"}
    post(remote, "otp/send", channel="email", **whom)
    (message,) = remote.outbox.sent("ada")

    answer = post(remote, "otp/authenticate", passcode=message.code, surprise="x", **whom)

    assert remote.outbox.latest("ada") == message
    assert remote.outbox.sent("nobody") == []
    assert answer.status_code == 400
    (call,) = remote.calls.find("otp/authenticate", "shop", passcode=message.code)
    assert (call.fields["surprise"], call.status) == ("x", 400)
    assert remote.calls.complaints() == ["otp/authenticate request: surprise is unknown"]


def post(remote: RemoteSimulator, path: str, **fields: str) -> httpx.Response:
    with httpx.Client(base_url=remote.url, trust_env=False, verify=NO_TLS) as http:
        form = {"grant_type": "client_credentials", "client_id": "shop", "client_secret": "secret"}
        token = http.post("/oidc/token", data=form).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        return http.post(f"/cis/v1/auth/{path}", json=fields, headers=headers)


def test_a_verb_that_fails_says_why(remote: RemoteSimulator) -> None:
    with pytest.raises(RemoteError, match="sent to nobody"):
        remote.outbox.latest("nobody")
    with pytest.raises(RemoteError, match="no such client"):
        remote.login("ada", "unknown")
    with pytest.raises(RemoteError, match="verbs are"):
        remote._wire("dance")

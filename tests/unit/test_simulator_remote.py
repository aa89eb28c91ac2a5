from __future__ import annotations

import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from simulator.controls.remote import RemoteError, RemoteSimulator
from simulator.idp.policy import DAY_SECONDS
from simulator.server import SimulatorServer

ROOT = Path(__file__).parents[2]
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx would load all root certificates


@pytest.fixture
def remote() -> Iterator[RemoteSimulator]:
    with SimulatorServer() as server, RemoteSimulator(server.url) as simulator:
        simulator.add_client("shop", "secret")
        simulator.add_user("ada", password="pw", email="ada@example.com")
        yield simulator


def authenticate(remote: RemoteSimulator, session_id: str) -> httpx.Response:
    with httpx.Client(base_url=remote.url, trust_env=False, verify=NO_TLS) as http:
        form = {"grant_type": "client_credentials", "client_id": "shop", "client_secret": "secret"}
        token = http.post("/oidc/token", data=form).json()["access_token"]
        return http.post(
            "/cis/v1/auth/session/authenticate",
            json={"session_id": session_id},
            headers={"Authorization": f"Bearer {token}"},
        )


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
    remote.change_policy(issuer="https://eu.userid.security")

    assert remote.count_frontend_sessions("ada") == 1
    assert remote.rotate_keys(keep_old=False)
    assert remote.mint_id_token(forgery="alg_none", sub="eve").endswith(".")


def test_a_verb_that_fails_says_why(remote: RemoteSimulator) -> None:
    with pytest.raises(RemoteError, match="sent to nobody"):
        remote.latest_message("nobody")
    with pytest.raises(RemoteError, match="no such client"):
        remote.login("ada", "unknown")
    with pytest.raises(RemoteError, match="verbs are"):
        remote._wire("dance")


def test_the_program_tells_its_url_and_leaves_cleanly_on_sigterm(tmp_path: Path) -> None:
    port_file = tmp_path / "url"
    command = [sys.executable, "-m", "simulator", "--port-file", str(port_file)]
    with subprocess.Popen(  # noqa: S603 - our own program
        [*command, "--client", "shop:secret"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        url = wait_for(port_file)
        with RemoteSimulator(url) as remote:
            assert authenticate(remote, remote.login("ada", "shop").session_id).status_code == 200

        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert printed.strip() == url


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, "the simulator did not start"
        time.sleep(0.02)
    return path.read_text()

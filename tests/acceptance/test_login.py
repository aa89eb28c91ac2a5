"""A user signs in, steps up and signs out, through real processes: no app meets Mosaic."""

from __future__ import annotations

from sandbox.stack import Stack
from session_client import Authenticated, CodeIssued, LoginRequired, Reason, SessionClient, methods
from tests.acceptance.client_rig import subject_of
from tests.heard import authenticated

PATIENT = 60.0
PASSWORD = "Planted.Password.Canary.4711"


def test_a_user_signs_in_steps_up_and_signs_out() -> None:
    with Stack() as stack:
        stack.migrate()
        key = stack.add_app("shop", "--methods", "password,otp_direct")
        stack.mosaic.add_user("ada", password=PASSWORD, email="ada@example.com")
        worker = stack.worker()

        with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
            password = methods.Password("ada", PASSWORD)
            first = authenticated(client.authenticate(password, timeout=PATIENT))
            begun = client.start(methods.IssueOtp(), step_up=first.browser_token, timeout=PATIENT)
            assert isinstance(begun, CodeIssued)
            second = authenticated(
                client.authenticate(
                    methods.Code(begun.code),
                    login=begun.login,
                    step_up=first.browser_token,
                    timeout=PATIENT,
                )
            )
            silent = client.silent_auth(browser_token=second.browser_token, timeout=PATIENT)
            client.logout(browser_token=second.browser_token, timeout=PATIENT)
            after = client.silent_auth(browser_token=second.browser_token, timeout=PATIENT)

        assert subject_of(first.tokens.id_token) == "ada"
        assert (first.amr, set(second.amr)) == (("pwd",), {"pwd", "otp", "mfa"})
        assert isinstance(silent, Authenticated)
        assert after == LoginRequired(Reason.LOGGED_OUT)
        assert (silent.amr, silent.claims["sub"]) == (second.amr, "ada")
        written = worker.log_text()
        database = (stack.folder / "sessions.db").read_bytes()
        for secret in (PASSWORD, begun.code, begun.login, str(second.browser_token)):
            assert secret not in written
            assert secret.encode() not in database

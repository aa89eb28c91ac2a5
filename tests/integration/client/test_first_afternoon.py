"""The tests that docs/first-afternoon.md shows run as they stand there, on its Flask app.

The apps themselves run in tests/acceptance/test_first_afternoon.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import session_client
from sandbox.environment import base_variables
from session_client import AppKey, Method, SessionClient, Task, methods
from session_client.login_steps import FirstStep, LoginStep
from session_client.logins import Authenticate, Start
from session_client.testing import SessionWorker, session_worker
from session_client.web import Options
from session_client.web.options import Settings
from tests.asgi import AsgiTransport

__all__ = ["session_worker"]

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "first-afternoon.md").read_text(encoding="utf-8")
FLASK, FASTAPI, _, _, A_PAYMENT, A_CONFTEST, A_TEST, A_PLAN = re.findall(
    r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    for name, value in {
        "SESSION_BROKER_URL": "redis://nobody",
        "SESSION_APP_ID": "forum",
        "SESSION_APP_KEY": AppKey.generate().text(),
        "SESSION_MARKS_URL": redis_url,
        "NEWS_SECRET": "a secret of the tests",
        "TALK_SECRET": "a secret of the tests",
    }.items():
        monkeypatch.setenv(name, value)


def run(sample: str, **names: Any) -> dict[str, Any]:
    names |= {"__name__": "sample"}
    exec(compile(sample, "docs", "exec"), names)  # noqa: S102 - it is ours
    return names


def test_the_flask_app(session_worker: SessionWorker) -> None:
    app = run(FLASK)
    client = app["app"].test_client()
    session_worker.add_user("ada", "secret")
    form = {"user": "ada", "password": "secret"}

    assert client.post("/login?next=/x", data=form, headers=session_worker.form).location == "/x"
    assert client.post("/logout", headers=session_worker.form).location == "/"
    wrong = client.post("/login", data=form | {"password": ""}, headers=session_worker.form)
    assert wrong.status_code == 403


def test_the_tests_pass_in_the_folder_of_a_reader_who_has_pasted_them(tmp_path: Path) -> None:
    pasted = {"news": FLASK, "conftest": A_CONFTEST, "test_news": A_TEST, "test_login": A_PLAN}
    for name, text in pasted.items():
        (tmp_path / f"{name}.py").write_text(text, "utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=base_variables(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout


def test_the_flask_app_asks_for_a_factor_that_an_operator_wants_of_every_session(
    session_worker: SessionWorker,
) -> None:
    client = run(FLASK)["app"].test_client()
    session_worker.add_user("ada", "secret")
    session_worker.policy = ["mfa"]
    page, form = session_worker.page, session_worker.form

    login = {"user": "ada", "password": "secret"}
    assert client.post("/login?next=/", data=login, headers=form).location == "/"
    assert client.get("/", headers=page).location == "/step-up?next=/"
    client.post("/step-up?next=/", headers=form)
    wrong = client.post("/step-up?next=/", data={"code": "1"}, headers=form)
    assert (wrong.status_code, "name=code" in wrong.text) == (403, True)
    code = {"code": session_worker.code_for("ada")}
    assert client.post("/step-up?next=/", data=code, headers=form).location == "/"
    assert "Hello ada" in client.get("/", headers=page).text


def test_the_flask_app_leads_who_was_signed_out_meanwhile_to_the_login(
    session_worker: SessionWorker,
) -> None:
    app = run(FLASK)
    client = app["app"].test_client()
    session_worker.browser = app["sessions"].options.cookie
    page, form = session_worker.page, session_worker.form
    begun, not_begun = (session_worker.sign_in("ada") for _ in range(2))
    client.set_cookie(*begun.cookie)
    client.get("/", headers=page)
    client.post("/step-up?next=/money", headers=form)
    session_worker.end(begun)

    code = {"code": session_worker.code_for("ada")}
    assert client.post("/step-up?next=/money", data=code, headers=form).location == "/money"
    assert client.get("/money", headers=page).location == "/login?next=/money"
    session_worker.end(not_begun)
    client.set_cookie(*not_begun.cookie)
    assert client.post("/step-up?next=/money", headers=form).location == "/money"


def test_the_fastapi_app_signs_in_a_test_that_came_with_a_login_from_elsewhere(
    session_worker: SessionWorker,
) -> None:
    app = run(FASTAPI)
    transport = AsgiTransport(app["app"])
    session_worker.browser = app["sessions"].options.cookie
    session_worker.add_user("ada", "secret")
    page, form = session_worker.page, session_worker.form
    (set_cookie,) = re.findall(r"`(client\.cookies\.set\(.*?\))`", PAGE)

    with httpx.Client(transport=transport, base_url="https://news.example") as client:
        names = {"client": client, "ada": session_worker.sign_in("ada")}
        eval(set_cookie, names)  # noqa: S307 - our own page
        before = client.get("/", headers=page).text
        client.post("/login", data={"user": "ada", "password": "secret"}, headers=form)
        after = client.get("/", headers=page).text
    transport.stop()

    assert "Hello ada" in before
    assert before == after


def test_who_types_no_code_into_the_fastapi_app_is_sent_none(session_worker: SessionWorker) -> None:
    app = run(FASTAPI)
    transport = AsgiTransport(app["app"])
    session_worker.browser = app["sessions"].options.cookie
    ada = session_worker.sign_in("ada")

    with httpx.Client(transport=transport, base_url="https://talk.example") as client:
        client.cookies.set(*ada.cookie, "talk.example")
        client.post("/step-up", headers=session_worker.form)
        nothing = client.post("/step-up", data={"code": ""}, headers=session_worker.form)
    transport.stop()

    assert nothing.status_code == 403
    assert [call.task for call in session_worker.calls] == [Task.START]


def test_who_is_signed_out_elsewhere_is_out_at_the_recheck_and_a_job_knows_it_at_once(
    session_worker: SessionWorker,
) -> None:
    app = run(FLASK.replace("cookie_domain=DOMAIN", "cookie_domain=DOMAIN, recheck=0"))
    client, asks = app["app"].test_client(), SessionClient.from_env()
    session_worker.browser = app["sessions"].options.cookie
    ada = session_worker.sign_in("ada")
    client.set_cookie(*ada.cookie)

    assert asks.status(user_id=ada.user_id, session_ref=ada.session_ref) == ()
    assert "Hello ada" in client.get("/", headers=session_worker.page).text
    assert len(asks.status(user_id=ada.user_id, session_ref=ada.session_ref)) == 1
    session_worker.end(ada)
    assert client.get("/", headers=session_worker.page).location == "/login?next=/"
    assert asks.status(user_id=ada.user_id, session_ref=ada.session_ref) == ()


def test_a_payment_is_made_as_the_user_has_approved_it(session_worker: SessionWorker) -> None:
    app = run(FLASK)
    client, made = app["app"].test_client(), list[tuple[str, ...]]()
    session_worker.browser = app["sessions"].options.cookie
    client.set_cookie(*session_worker.sign_in("ada").cookie)
    passkey = session_worker.add_passkey("ada")
    asked, _, signed = A_PAYMENT.partition("\nmatch ")
    names = vars(session_client) | {"transfer": lambda *what: made.append(what)}
    names["sessions"] = app["sessions"]

    def pay() -> str:
        begun = run(asked, **names)["begun"]
        run(f"match {signed}", **names, signed=passkey.answer(begun.options))
        return "paid"

    app["app"].add_url_rule("/pay", "pay", pay, methods=["POST"])

    assert client.post("/pay", headers=session_worker.form).text == "paid"
    assert made == [("2026-4711", "DE02120300000000202051", "12.50", "EUR")]


def test_what_the_pretend_worker_does_not_know_is_planned(session_worker: SessionWorker) -> None:
    run(A_PLAN)["test_a_login_of_our_own_is_registered"](session_worker)


def test_the_page_has_each_way_to_sign_in_as_it_is_called_and_granted() -> None:
    section = PAGE.partition("\n## Other ways to sign in\n")[2].partition("\n## ")[0]
    words = "name password code state signed address challenge signature key_id user_id"
    given: dict[str, Any] = dict.fromkeys(words.split(), "x")
    given["payment"] = {"amount": "12.50"}
    given |= {"callback": "https://news.example/back", **{s.__name__: s for s in methods.TABLE}}
    seen: set[type[LoginStep]] = set()

    def call(step: Any, *, step_up: bool = False, approval_data: Any = None) -> None:
        seen.add(type(step))
        login = "a handle" if step.needs_login else None
        token = "msb1_x" if step_up else None
        if isinstance(step, FirstStep):
            Start(step=step, login=login, step_up=token, approval_data=approval_data)
        else:
            Authenticate(proof=step, login=login, step_up=token)

    calls = re.findall(r"`((?:begin|log_in|complete)\(.*?\))`", section)
    for text in calls:
        eval(text, given | dict.fromkeys(("begin", "log_in", "complete"), call))  # noqa: S307
    assert len(calls) >= len(seen)
    by_itself = {methods.IssueOtp, methods.IssueLink}
    assert seen == {*methods.TABLE} - by_itself
    assert all(f"`{step.__name__}`" in section for step in by_itself)

    granted = set(re.findall(r"\| `(\w+)` \|$", section, re.MULTILINE))
    assert granted | {"otp_direct", "link_direct"} == {method.value for method in Method}
    assert "`otp_direct` and `link_direct`" in section


def test_the_page_names_each_option_with_its_default() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| ([^|]+) \|", PAGE, re.MULTILINE)
    named = {name for names, _ in rows for name in re.findall(r"`(\w+)`", names)}

    assert named == set(Settings.__annotations__)
    defaults = dict(rows)["`recheck`, `grace`"]
    assert defaults == f"{Options().recheck:g}, {Options().grace:g}"

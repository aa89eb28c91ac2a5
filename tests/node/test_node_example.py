"""The Node example against the real worker: two apps of it, and the contract's test vectors.

Needs Node and ``npm ci`` in examples/node, which `make test-node` sees to.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from sandbox.environment import base_variables
from sandbox.ports import free_port
from sandbox.processes import ManagedProcess, poll_until
from sandbox.sent_codes import phone_of
from sandbox.stack import Stack

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "node"
USER, OTHER, PASSWORD = "ada", "eve", "correct horse battery staple"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        stack.migrate()
        for user in (USER, OTHER):
            stack.mosaic.add_user(user, password=PASSWORD, phone=phone_of(user))
        stack.worker()
        yield stack


@pytest.fixture(scope="module")
def serve(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    started: list[ManagedProcess] = []

    def serve(app_id: str, *options: str) -> str:
        port, queue = free_port(), f"{app_id}-notices"
        words = ("--methods", "password,otp", "--notice-queue", queue, *options)
        key = stack.add_app(app_id, *words)
        process = ManagedProcess(
            ["node", "server.mjs"],
            environment=base_variables()
            | {
                "SESSION_BROKER_URL": stack.broker_url,
                "SESSION_APP_ID": app_id,
                "SESSION_APP_KEY": key,
                "NOTICE_QUEUE": queue,
                "PORT": str(port),
            },
            log_path=tmp_path_factory.mktemp(app_id) / "node.log",
            cwd=EXAMPLE,
        )
        started.append(process.start())
        process.wait_for_line("Listening on", timeout=60)
        return f"http://127.0.0.1:{port}"

    yield serve
    for process in started:
        process.close()


@pytest.fixture(scope="module")
def shop(serve: Callable[..., str]) -> str:
    return serve("shop")


@pytest.fixture(scope="module")
def desk(serve: Callable[..., str]) -> str:
    return serve("desk")


@pytest.fixture(scope="module")
def bank(serve: Callable[..., str]) -> str:
    return serve("bank", "--require-amr", "mfa")


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield client


def send(browser: httpx.Client, app: str, path: str, **form: str) -> httpx.Response:
    return browser.post(f"{app}{path}", data=form, headers={"Origin": app})


def sign_in(
    browser: httpx.Client, app: str, password: str = PASSWORD, user: str = USER
) -> httpx.Response:
    return send(browser, app, "/login", user=user, password=password)


def is_in(browser: httpx.Client, app: str, user: str = USER) -> bool:
    page = browser.get(app)
    if page.is_redirect:
        assert leads_to(page) == "/login"
        return False
    assert page.text.startswith(f"<h1>Desk of {user}</h1>"), page
    return True


def sign_out(browser: httpx.Client, app: str) -> httpx.Response:
    return send(browser, app, "/logout")


def leads_to(answer: httpx.Response) -> str:
    assert answer.status_code == 303
    return urlsplit(answer.headers["Location"]).path


def test_who_signs_in_at_one_is_known_at_the_other_and_signed_out_everywhere(
    browser: httpx.Client, shop: str, desk: str
) -> None:
    assert not is_in(browser, desk)
    assert sign_in(browser, shop, "wrong").status_code == 403
    assert sign_in(browser, shop).status_code == 303
    # Both are on localhost, where ports share cookies: their own sessions would be one cookie.
    browser.cookies.delete("desk-session")
    assert is_in(browser, desk)
    own = browser.cookies["desk-session"]

    browser.cookies.delete("desk-session")
    assert sign_out(browser, shop).status_code == 303

    browser.cookies.set("desk-session", own)
    poll_until(lambda: not is_in(browser, desk), 60, what="the notice to reach the desk")


@pytest.mark.parametrize(("comes_from", "user"), [("shop", USER), ("bank", OTHER)])
def test_who_lacks_a_factor_is_led_to_where_it_is_added(  # noqa: PLR0917 - fixtures
    browser: httpx.Client, stack: Stack, shop: str, bank: str, comes_from: str, user: str
) -> None:
    assert leads_to(sign_in(browser, {"shop": shop, "bank": bank}[comes_from], user=user)) == "/"
    browser.cookies.delete("desk-session")
    assert leads_to(browser.get(bank)) == "/step-up"

    assert send(browser, bank, "/step-up", code="123456").status_code == 403  # none was sent
    assert send(browser, bank, "/step-up").status_code == 200
    code = str(stack.mosaic.outbox.sent(user)[-1].code)
    assert send(browser, bank, "/step-up", code=f"{code[1:]}x").status_code == 403
    assert leads_to(send(browser, bank, "/step-up", code=code)) == "/"

    assert is_in(browser, bank, user)


def test_who_is_signed_out_is_led_to_the_login_and_not_to_a_factor(
    browser: httpx.Client, bank: str
) -> None:
    assert leads_to(send(browser, bank, "/step-up")) == "/login"
    browser.cookies.set("mosaic-sso", f"msb1_{'x' * 43}")
    assert leads_to(send(browser, bank, "/step-up")) == "/"
    assert leads_to(browser.get(bank)) == "/login"


def test_what_comes_from_elsewhere_changes_nothing(browser: httpx.Client, shop: str) -> None:
    assert sign_in(browser, shop).status_code == 303
    elsewhere = {"Origin": "https://evil.example"}
    assert browser.post(f"{shop}/logout", headers=elsewhere).status_code == 403
    assert browser.get(f"{shop}/logout").status_code == 404
    assert is_in(browser, shop)


def test_a_browser_token_that_comes_twice_counts_as_none(browser: httpx.Client, shop: str) -> None:
    sign_in(browser, shop)
    token = browser.cookies["mosaic-sso"]
    planted = f"mosaic-sso={token}; mosaic-sso=msb1_{'x' * 43}"
    with httpx.Client(trust_env=False, timeout=60) as other:
        assert other.get(shop, headers={"Cookie": planted}).is_redirect
        assert other.get(shop, headers={"Cookie": f"mosaic-sso={token}"}).status_code == 200


def test_without_a_worker_nobody_is_asked_to_sign_in(
    browser: httpx.Client, stack: Stack, shop: str
) -> None:
    sign_in(browser, shop)
    browser.cookies.delete("desk-session")
    stack.processes["worker"].terminate()
    try:
        page = browser.get(shop)
    finally:
        stack.processes["worker"].start().wait_for_line("ready.", timeout=90)
    assert (page.status_code, page.headers["Retry-After"]) == (503, "5")
    assert is_in(browser, shop)  # by the same connections


def test_while_mosaic_is_away_nobody_is_asked_to_sign_in(
    browser: httpx.Client, stack: Stack, shop: str
) -> None:
    sign_in(browser, shop)
    browser.cookies.delete("desk-session")
    stack.mosaic.faults.add("session/authenticate", "status", status=503)
    try:
        page = browser.get(shop)
    finally:
        stack.mosaic.faults.clear()
    assert (page.status_code, page.headers["Retry-After"]) == (503, "5")
    poll_until(lambda: browser.get(shop).status_code == 200, 60, what="Mosaic to be asked again")


def test_the_client_opens_the_contract_s_test_vectors() -> None:
    page = (ROOT / "docs" / "contract.md").read_text("utf-8").partition("## Test vector")[2]
    key, *sealed = re.findall(r"```(?:text|json)\n(.*?)```", page, re.DOTALL)
    pairs = [
        [one.strip(), json.loads(told)] for one, told in zip(sealed[::2], sealed[1::2], strict=True)
    ]
    script = f"""
        import {{ open, parseKey }} from "./client.mjs";
        import {{ deepEqual, rejects }} from "node:assert/strict";
        const key = parseKey("{key.strip()}");
        for (const [text, told] of {json.dumps(pairs)}) {{
          const {{ typ }} = JSON.parse(Buffer.from(text.split(".")[0], "base64url"));
          deepEqual(await open(key, typ, text), told);
          await rejects(open(key, "another-kind", text));
        }}
    """
    done = subprocess.run(  # noqa: S603 - our own script
        ["node", "--input-type=module", "-e", script],  # noqa: S607 - whichever is on PATH
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert len(pairs) > 1
    assert done.returncode == 0, done.stderr

"""docs/first-afternoon.md, followed to the letter on `make dev`: its files, its commands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, Self

import httpx
import pytest

from sandbox.environment import base_variables
from sandbox.ports import free_port
from sandbox.processes import ManagedProcess, poll_until

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "first-afternoon.md").read_text("utf-8")
SECTIONS: Final = {"news": "Flask", "talk": "FastAPI and Starlette", "club": "Django"}
PORTS: Final = {"news": 5000, "talk": 5001, "club": 5002}
PATIENT: Final = 240.0
# The environment of the tests has all that a reader installs.
INSTALLS: Final = re.compile(r"python3 -m venv venv.*\n(?:pip install .*\n)?")
ADDS: Final = re.compile(r'make dev-app ID=(\w+) ARGS="(.*)"')


class Browser:
    """Somebody's browser: its cookies, and what it says of each request."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self.client = httpx.Client(timeout=PATIENT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def address(self, app: str, path: str = "/") -> str:
        return f"http://localhost:{self._ports[app]}{path}"

    def open(self, app: str, path: str = "/") -> httpx.Response:
        headers = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}
        return self.client.get(self.address(app, path), headers=headers, follow_redirects=True)

    def submit(self, page: httpx.Response, path: str | None = None, **typed: str) -> httpx.Response:
        """Send the form of *page*, with what it hides, to *path* or where it came from."""
        hidden = dict(re.findall(r"<input type=hidden name=(\w+) value=(\w+)>", page.text))
        origin = str(page.url.copy_with(raw_path=b"/")).rstrip("/")
        headers = {
            "Sec-Fetch-Dest": "document",
            "Sec-Fetch-Site": "same-origin",
            "Origin": origin,
            "Referer": str(page.url),
        }
        where = f"{origin}{path}" if path else str(page.url)
        answer = self.client.post(where, data={**hidden, **typed}, headers=headers)
        return self.open_as_told(answer) if answer.is_redirect else answer

    def open_as_told(self, answer: httpx.Response) -> httpx.Response:
        headers = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}
        where = answer.url.join(answer.headers["Location"])
        return self.client.get(where, headers=headers, follow_redirects=True)

    def is_asked(self, app: str) -> bool:
        """Whether the app asks for a login."""
        return self.open(app).url.path == "/login"

    def sees(self, app: str) -> str:
        page = self.open(app).text
        found = re.search(r"<h1>Hello (\w+)</h1>", page)
        return found[1] if found else page


class Afternoon:
    """`make dev`, and a reader who pastes what the page says; ports are free ones."""

    def __init__(self, folder: Path, exits: ExitStack) -> None:
        self._folder = folder
        self._exits = exits
        self.ports = {app: free_port() for app in SECTIONS}
        self._environment = base_variables()
        self._environment["PATH"] = f"{Path(sys.executable).parent}:{self._environment['PATH']}"
        self._dev = self._start("dev", f"python -m sandbox.dev --folder {folder}/dev", ROOT)
        self._dev.wait_for_line("Ctrl-C ends it", timeout=PATIENT)

    def follow(self, app: str) -> None:
        section = PAGE.partition(f"\n## {SECTIONS[app]}\n")[2].partition("\n## ")[0]
        prepare, serve = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        self._run(self._typed(prepare))
        folder = self._folder / app
        for line, name, text in re.findall(
            r"^([^\n]*`([\w/]+\.py)`[^\n]*)\n\n```python\n(.*?)^```",
            section,
            re.MULTILINE | re.DOTALL,
        ):
            how = "a" if line.startswith("At the end of") else "w"
            with (folder / name).open(how, encoding="utf-8") as file:
                file.write(text)
        self._start(app, f"CHECKOUT=.\n{self._typed(serve)}", folder)

    def add_user(self, user_id: str, password: str) -> None:
        self._run(f"python -m sandbox.dev --folder {self._folder}/dev user {user_id} {password}")

    def want_a_factor_of_every_session(self, app: str) -> None:
        words = f"mosaic-sessions apps set {app} --require-amr mfa"
        self._run(f". {self._folder}/dev/operator.sh\n{words}")

    def code_for(self, user_id: str) -> str:
        line = self._dev.wait_for_line(f"A code for {user_id}: ", timeout=PATIENT)
        return line.rpartition(" ")[2]

    def _run(self, command: str) -> None:
        subprocess.run(  # noqa: S603 - our own page
            ["/bin/sh", "-ec", command],
            cwd=ROOT,
            env=self._environment,
            check=True,
            timeout=PATIENT,
        )

    def _typed(self, pasted: str) -> str:
        ports = {str(port): str(self.ports[app]) for app, port in PORTS.items()}
        # All at once: one that was put in may be another's text.
        pasted = re.sub("|".join(ports), lambda found: ports[found[0]], pasted)
        pasted = INSTALLS.sub("", pasted).replace("../", f"{self._folder}/")
        pasted = ADDS.sub(rf"python -m sandbox.dev --folder {self._folder}/dev app \1 \2", pasted)
        return pasted.replace("$CHECKOUT/var/dev", f"{self._folder}/dev")

    def _start(self, name: str, command: str, where: Path) -> ManagedProcess:
        return self._exits.enter_context(
            ManagedProcess(
                ["/bin/sh", "-ec", command],
                environment=self._environment,
                log_path=self._folder / f"{name}.log",
                cwd=where,
            )
        )


@pytest.fixture(scope="module")
def afternoon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Afternoon]:
    with ExitStack() as exits:
        afternoon = Afternoon(tmp_path_factory.mktemp("afternoon"), exits)
        for app in SECTIONS:
            afternoon.follow(app)
        waiting = exits.enter_context(Browser(afternoon.ports))
        for app in SECTIONS:
            poll_until(partial(is_there, waiting, app), PATIENT, 0.5, what=f"{app} to start")
        yield afternoon


def is_there(browser: Browser, app: str) -> bool:
    try:
        return browser.open(app).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@pytest.fixture
def sit_down(afternoon: Afternoon) -> Iterator[Callable[[], Browser]]:
    with ExitStack() as exits:
        yield lambda: exits.enter_context(Browser(afternoon.ports))


@pytest.mark.parametrize("first", SECTIONS)
def test_in_at_one_is_in_at_all_and_out_at_all(sit_down: Callable[[], Browser], first: str) -> None:
    browser, phone, copies = sit_down(), sit_down(), sit_down()
    form = browser.open(first)
    assert form.url.path == "/login"
    assert "Hello" not in browser.submit(form, user="ada", password="wrong").text

    assert "Hello ada" in browser.submit(form, user="ada", password="lovelace").text
    phone.submit(phone.open(first), user="ada", password="lovelace")
    assert {app: browser.sees(app) for app in SECTIONS} == dict.fromkeys(SECTIONS, "ada")

    copies.client.cookies.update(browser.client.cookies)
    browser.submit(browser.open(first), "/logout")

    assert all(browser.is_asked(app) for app in SECTIONS)
    # The notices have come too: who has kept copies of the cookies is nobody.
    for app in SECTIONS:
        poll_until(partial(copies.is_asked, app), PATIENT)
    assert {app: phone.sees(app) for app in SECTIONS} == dict.fromkeys(SECTIONS, "ada")


def test_money_wants_a_code_which_make_dev_shows(
    afternoon: Afternoon, sit_down: Callable[[], Browser]
) -> None:
    browser = sit_down()
    browser.submit(browser.open("news"), user="ada", password="lovelace")

    asked = browser.open("news", "/money")
    assert asked.url.path == "/step-up"
    typing = browser.submit(asked)
    money = browser.submit(typing, code=afternoon.code_for("ada"))

    assert "The money of ada" in money.text


def test_who_signs_in_at_127_0_0_1_is_in_there_and_at_no_app_at_localhost(
    afternoon: Afternoon, sit_down: Callable[[], Browser]
) -> None:
    browser = sit_down()
    page = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}
    printed = f"http://127.0.0.1:{afternoon.ports['news']}"
    form = browser.client.get(printed, headers=page, follow_redirects=True)

    assert "Hello ada" in browser.submit(form, user="ada", password="lovelace").text
    assert [browser.is_asked(app) for app in SECTIONS] == [True] * 3


def test_a_script_is_told_in_its_own_way(sit_down: Callable[[], Browser]) -> None:
    browser = sit_down()
    script = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}
    nobody = browser.client.get(browser.address("talk", "/me"), headers=script)
    browser.submit(browser.open("talk"), user="ada", password="lovelace")
    somebody = browser.client.get(browser.address("talk", "/me"), headers=script)

    assert (nobody.status_code, nobody.json()["error"]) == (401, "login_required")
    assert somebody.json() == {"user": "ada"}


# Last: from then on these apps want a factor of every session.
@pytest.mark.parametrize("app", SECTIONS)
def test_each_app_asks_for_a_factor_that_an_operator_wants_of_every_session(
    afternoon: Afternoon, sit_down: Callable[[], Browser], app: str
) -> None:
    def asks() -> tuple[Browser, httpx.Response] | None:
        browser = sit_down()
        page = browser.submit(browser.open(app), user=user_id, password="builder")
        return (browser, page) if page.url.path == "/step-up" else None

    user_id = f"bob_of_{app}"
    afternoon.add_user(user_id, "builder")
    afternoon.want_a_factor_of_every_session(app)
    found = poll_until(asks, PATIENT, 0.5, what="the worker to see the change")
    assert found is not None
    browser, asked = found
    typing = browser.submit(asked)
    assert "name=code" in typing.text
    wrong = browser.submit(typing, code="12")
    home = browser.submit(wrong, code=afternoon.code_for(user_id))

    assert "name=code" in wrong.text
    assert f"Hello {user_id}" in home.text

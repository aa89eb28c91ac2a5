"""A picture of `mosaic-sessions top`: what the real program draws on a real terminal."""

from __future__ import annotations

import fcntl
import html
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from sandbox import notice_keys
from sandbox.environment import base_variables
from sandbox.ports import HOST, free_port
from sandbox.stack import Stack
from session_client import SessionClient
from tests.browser.pictures import picture
from tests.browser.test_journey import CHROMIUM
from tests.faults.looking import registered

COLUMNS, ROWS = 84, 36
LIVELY_SECONDS: Final = 20.0
PAGE: Final = """\
<style>
  body {{ margin: 0; background: #0d1117; color: #e6edf3; width: max-content }}
  pre {{ margin: 0; padding: 16px 20px; font: 14px/1.35 "DejaVu Sans Mono", monospace }}
</style><pre>{}</pre>"""


Clients = dict[str, SessionClient]


def screen(stack: Stack, clients: Clients) -> str:
    """What stands on the terminal after a while in which users came and went."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    program = subprocess.Popen(  # noqa: S603 - ours
        [Path(sys.executable).with_name("mosaic-sessions"), "top", "--every", "1"],
        env=base_variables() | stack.environment | {"TERM": "xterm", "LANG": "C.UTF-8"},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    drawn = b""
    try:
        until = time.monotonic() + LIVELY_SECONDS
        for number in count(1):
            come_and_go(stack, clients, number)
            with suppress(BlockingIOError):
                drawn += os.read(ours, 1_000_000)
            if time.monotonic() > until:
                break
    finally:
        program.terminate()
        program.wait()
        os.close(ours)
    *_, frame, _ = drawn.decode().split("\x1b[H")
    return re.sub(r"\x1b\[[KJ]", "", frame).replace("\r\n", "\n").rstrip()


def come_and_go(stack: Stack, clients: Clients, number: int) -> None:
    user = f"user-{number}"
    session = registered(stack, clients["shop"], user)
    for app in ("forum", "desk", "forum")[: number % 4]:
        clients[app].silent_auth(user_id=user, timeout=60)
    if number % 3 == 0:
        clients["shop"].logout(user_id=user, session_ref=session.session_ref, timeout=60)


def draw(shown: str) -> None:
    """Write it down as a terminal shows it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 760, "height": 100})
        page.set_content(PAGE.format(html.escape(shown)))
        page.locator("body").screenshot(path=picture("top"))
        browser.close()


def test_top_as_it_stands_on_a_terminal() -> None:
    settings = {
        "notice_private_addresses": True,
        "notice_signing_keys": notice_keys.new_pem(),
        "notice_issuer": "https://sessions.example",
    }
    with Stack(settings=settings) as stack, ExitStack() as clients:
        stack.migrate()
        keys = {
            "shop": stack.add_app("shop"),
            "forum": stack.add_app("forum", "--notice-url", f"http://{HOST}:{free_port()}/gone"),
            "desk": stack.add_app("desk", "--notice-queue", "desk-notices"),
        }
        stack.worker("-c", "8")
        stack.beat()
        shown = screen(
            stack,
            {
                app: clients.enter_context(
                    SessionClient(broker_url=stack.broker_url, app_id=app, app_key=key)
                )
                for app, key in keys.items()
            },
        )
    draw(shown)

    for word in ("logins", "silent authentications", "desk-notices (desk)", "workers 1, slots 8"):
        assert word in shown
    assert "█" in shown

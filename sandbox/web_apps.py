"""The apps of `examples/web` as processes, at addresses that browsers find without a name server.

`python -m sandbox.web_apps` keeps them running with all they need, until Ctrl-C. What ends in
``.localhost`` browsers take to be this machine, and as safe as if it came by TLS.
"""

from __future__ import annotations

import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from sandbox import notice_keys
from sandbox.environment import base_variables
from sandbox.ports import HOST, free_port
from sandbox.processes import ManagedProcess, poll_until
from sandbox.sent_codes import SentCodes
from sandbox.stack import START_SECONDS, Stack

DOMAIN: Final = "apps.localhost"
USER: Final = "ada"
PASSWORD: Final = "lovelace"
PHONE: Final = "+441632960001"

_COMMANDS: Final = {
    "shop": ("flask", "--app", "examples.web.shop", "run", "--port"),
    "forum": ("uvicorn", "examples.web.forum:app", "--port"),
    "bank": ("django-admin", "runserver", "--noreload"),
}


@contextmanager
def web_apps() -> Iterator[tuple[Stack, dict[str, str]]]:
    """Start everything; give the stack and where each app is."""
    ports = {app: free_port() for app in _COMMANDS}
    with ExitStack() as exits:
        stack = exits.enter_context(Stack(settings=_notices()))
        stack.migrate()
        stack.mosaic.add_user(USER, password=PASSWORD, phone=PHONE)
        worker = stack.start("worker", "celery", "-A", "worker", "worker")
        for number, (app, port) in enumerate(ports.items(), start=1):
            notices = f"http://{HOST}:{port}/logout-notice"
            key = stack.add_app(app, "--methods", "password,otp,webauthn", "--notice-url", notices)
            environment = environment_of(stack, app, key, number)
            if app == "bank":
                _run(stack, environment, "django-admin", "migrate", "--verbosity", "0")
            words = [*_COMMANDS[app], f"{HOST}:{port}" if app == "bank" else str(port)]
            exits.enter_context(_process(stack, app, environment, *words))
        worker.wait_for_line("ready.", timeout=START_SECONDS)
        for app, port in ports.items():
            poll_until(partial(_answers, port), START_SECONDS, what=f"{app} to start")
        yield stack, {app: f"http://{app}.{DOMAIN}:{port}" for app, port in ports.items()}


def main() -> int:
    """Start everything, print where it is, and wait."""
    with web_apps() as (stack, addresses):
        for app, address in addresses.items():
            print(f"{app:6} {address}")
        print(f'\nSign in as "{USER}" with "{PASSWORD}". Codes that the bank sends appear here.')
        print("Ctrl-C ends it and removes everything.", flush=True)
        codes = SentCodes(stack.mosaic)
        try:
            while not threading.Event().wait(1.0):
                codes.show_new()
        except KeyboardInterrupt:
            return 0
    return 0


def _notices() -> dict[str, object]:
    return {
        "notice_issuer": "http://sessions.localhost",
        "notice_signing_keys": notice_keys.new_pem(),
        "notice_private_addresses": "true",
    }


def environment_of(stack: Stack, app: str, key: str, number: int) -> dict[str, str]:
    """Return what an app of the examples reads; *number* is the Redis database of its marks."""
    secret = secrets.token_urlsafe(32)
    return {
        **base_variables(),
        "SESSION_BROKER_URL": stack.broker_url,
        "SESSION_APP_ID": app,
        "SESSION_APP_KEY": key,
        "SESSION_MARKS_URL": stack.redis.url(number),
        "FLASK_SECRET_KEY": secret,
        "FLASK_DOMAIN": DOMAIN,
        "FORUM_SECRET": secret,
        "FORUM_DOMAIN": DOMAIN,
        "BANK_SECRET": secret,
        "BANK_DOMAIN": DOMAIN,
        "BANK_DB": str(stack.folder / "bank.db"),
        "DJANGO_SETTINGS_MODULE": "examples.web.bank.settings",
        "PYTHONPATH": str(_root()),
    }


def _process(stack: Stack, name: str, environment: dict[str, str], *command: str) -> ManagedProcess:
    return ManagedProcess(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        environment=environment,
        log_path=stack.folder / f"{name}.log",
        cwd=_root(),
    )


def _run(stack: Stack, environment: dict[str, str], *command: str) -> None:
    with _process(stack, command[1], environment, *command) as process:
        if process.wait(timeout=START_SECONDS) != 0:
            raise RuntimeError(process.log_text())


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _root() -> Path:
    return Path(__file__).parent.parent


if __name__ == "__main__":
    sys.exit(main())

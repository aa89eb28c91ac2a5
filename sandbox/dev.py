"""`make dev`: the whole system on a laptop until Ctrl-C, and what to paste into an app.

Keys, users and sessions are there again at the next run; ``rm -r var/dev`` begins anew.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Final

import httpx

from sandbox.dev_folder import DEFAULT, DevFolder, InUseError
from sandbox.ports import HOST, fixed_port
from sandbox.processes import ManagedProcess
from sandbox.redis_server import RedisServer
from sandbox.sent_codes import SentCodes, email_of, phone_of
from sandbox.stack import PREFIX, START_SECONDS, Stack, add_app
from simulator.controls.remote import RemoteError, RemoteSimulator

APPS: Final = ("shop", "forum")
USER, PASSWORD = "ada", "lovelace"  # who may sign in; the pretend Mosaic is this machine's alone
_METHODS: Final = ("--methods", "password,otp,link,social")
# Where they are free; below what the tests choose from.
_MOSAIC_PORT, _REDIS_PORT, _MONITOR_PORT = 19080, 19079, 19081
_SETTINGS: Final = {"log_format": "console"}


def main(arguments: list[str]) -> int:
    """Run, or change what runs."""
    options = _parse(arguments)
    folder = DevFolder(options.folder)
    try:
        if options.verb == "app":
            return _add_app(folder, options.id, options.more)
        if options.verb == "user":
            return _add_user(folder, options.id, options.password)
        return _run(folder)
    except (InUseError, RemoteError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
    except (FileNotFoundError, httpx.TransportError):
        sys.stderr.write("nothing is running: start `make dev` first, in another terminal\n")
    return 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.dev", description=__doc__)
    parser.add_argument("--folder", type=Path, default=DEFAULT)
    verbs = parser.add_subparsers(dest="verb")
    app = verbs.add_parser("app", help="add an app to what is running")
    app.add_argument("id")
    app.add_argument("more", nargs=argparse.REMAINDER, help="as `mosaic-sessions apps add` has it")
    user = verbs.add_parser("user", help="add somebody who may sign in")
    user.add_argument("id")
    user.add_argument("password")
    options = parser.parse_args(arguments)
    if options.verb and not (options.id and getattr(options, "password", "x")):
        parser.error("make dev-app ID=bank, or make dev-user ID=bob PASSWORD=builder")
    return options


def _run(folder: DevFolder) -> int:
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    folder.lock()
    with (
        RedisServer(port=fixed_port(_REDIS_PORT), folder=folder.redis, appendonly=True) as redis,
        Stack(
            redis=redis,
            simulator_options=(
                "--port",
                str(fixed_port(_MOSAIC_PORT)),
                "--state",
                str(folder.mosaic),
            ),
            settings={**_SETTINGS, **folder.settings()},
            folder=folder.path,
        ) as stack,
    ):
        stack.migrate()
        public_keys = _sign_notices(stack, folder)
        _people(stack, folder)
        folder.keep_environment(stack.environment)
        processes = (stack.worker(), stack.beat(), public_keys)
        print(_instructions(stack, folder), flush=True)
        codes = SentCodes(stack.mosaic)
        while not stop.wait(1.0):
            codes.show_new()
            for process in processes:
                if not process.is_alive:
                    print(process.log_text(), file=sys.stderr)
                    return 1
    return 0


def _people(stack: Stack, folder: DevFolder) -> None:
    """See that the apps and the user are there, of this run or an earlier one."""
    folder.tell_broker(stack.broker_url)
    for app_id in APPS:
        if not folder.app(app_id).exists():
            added = add_app(stack.environment, stack.mosaic, app_id, *_METHODS)
            folder.keep_app(app_id, stack.broker_url, added)
    if not folder.mosaic.exists():
        _add_person(stack.mosaic, USER, PASSWORD)


def _sign_notices(stack: Stack, folder: DevFolder) -> ManagedProcess:
    """Let the worker tell apps here by back-channel logout; return what serves its keys."""
    port = fixed_port(_MONITOR_PORT)
    stack.environment |= {
        f"{PREFIX}NOTICE_ISSUER": f"http://{HOST}:{port}",
        f"{PREFIX}NOTICE_SIGNING_KEYS_FILE": str(folder.notice_key()),
        f"{PREFIX}NOTICE_PRIVATE_ADDRESSES": "true",
    }
    monitor = stack.start("monitor", "mosaic-sessions", "monitor", "--port", str(port))
    monitor.wait_for_line("Listening on ", timeout=START_SECONDS)
    return monitor


def _add_app(folder: DevFolder, app_id: str, more: list[str]) -> int:
    if folder.app(app_id).exists():  # another secret at Mosaic would lock the known one out
        raise RuntimeError(
            f"{app_id} is known already; it loads {_shown(folder.app(app_id))}. To change it:\n\n"
            f"    . {_shown(folder.operator)}\n"
            f"    mosaic-sessions apps set {app_id} --help"
        )
    environment = folder.environment()
    with RemoteSimulator(environment[f"{PREFIX}MOSAIC_BASE_URL"]) as mosaic:
        added = add_app(environment, mosaic, app_id, *_METHODS, *more)  # the last one counts
    folder.keep_app(app_id, environment["CELERY_BROKER_URL"], added)
    print(f"{app_id} is known. It loads {_shown(folder.app(app_id))}:\n")
    print(f"    set -a; . {_shown(folder.app(app_id))}; set +a")
    return 0


def _add_user(folder: DevFolder, user_id: str, password: str) -> int:
    with RemoteSimulator(folder.environment()[f"{PREFIX}MOSAIC_BASE_URL"]) as mosaic:
        _add_person(mosaic, user_id, password)
    print(f"{user_id} may sign in with that password, {_other_ways(user_id)}.")
    return 0


def _add_person(mosaic: RemoteSimulator, user_id: str, password: str) -> None:
    email = email_of(user_id)
    mosaic.add_user(user_id, password=password, phone=phone_of(user_id), email=email)
    mosaic.social.add_account("google", user_id, email=email)


def _other_ways(user_id: str) -> str:
    addresses = f"{email_of(user_id)} or {phone_of(user_id)}"
    return f"by what is sent to {addresses}, and at Google"


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _instructions(stack: Stack, folder: DevFolder) -> str:
    clients = "\n".join(
        f'{app_id} = SessionClient(\n    broker_url="{stack.broker_url}",\n'
        f'    app_id="{app_id}",\n    app_key="{folder.app_key(app_id)}",\n)'
        for app_id in APPS
    )
    return f"""\
Everything is running. Data and logs: {_shown(folder.path)}, kept for the next time.

In Python (pip install ./client), as two apps:

from session_client import Password, SessionClient

{clients}

login = shop.authenticate(Password("{USER}", "{PASSWORD}"))
print(forum.silent_auth(browser_token=login.browser_token).user_id)
forum.logout(browser_token=login.browser_token)
print(shop.silent_auth(browser_token=login.browser_token).reason)

{USER} may also sign in {_other_ways(USER)}. What is sent appears here.

For an app of your own, and one more user:

    make dev-app ID=bank
    make dev-user ID=bob PASSWORD=builder
    set -a; . {_shown(folder.path)}/bank.env; set +a

For mosaic-sessions, in another terminal:

    . {_shown(folder.operator)}
    mosaic-sessions doctor

For examples/backchannel_app.py in the forum's place, which is told of logouts, after these:

    mosaic-sessions apps set-notice forum --notice-url http://127.0.0.1:8000/backchannel-logout
    set -a; . {_shown(folder.path)}/forum.env; set +a
    uvicorn examples.backchannel_app:app

Ctrl-C ends it. `rm -r {_shown(folder.path)}` forgets everything."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

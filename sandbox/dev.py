"""`make dev`: the whole system on a laptop until Ctrl-C, and what to paste into an app."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.ports import HOST, free_port
from sandbox.processes import ManagedProcess
from sandbox.stack import PREFIX, START_SECONDS, Stack

APPS = ("shop", "forum")
USER, PASSWORD = "ada", "lovelace"  # who may sign in; the pretend Mosaic is this machine's alone


def main() -> int:
    """Start everything, print how to use it, and wait."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    with Stack(settings={"log_format": "console"}) as stack:
        stack.migrate()
        public_keys = _sign_notices(stack)
        keys = {app_id: stack.add_app(app_id, "--methods", "password") for app_id in APPS}
        stack.mosaic.add_user(USER, password=PASSWORD)
        processes = (stack.worker(), stack.beat(), public_keys)
        print(_instructions(stack, keys), flush=True)
        while not stop.wait(1.0):
            for process in processes:
                if not process.is_alive:
                    print(process.log_text(), file=sys.stderr)
                    return 1
    return 0


def _sign_notices(stack: Stack) -> ManagedProcess:
    """Let apps on this machine be told by back-channel logout; return who serves our keys."""
    pem = stack.folder / "notices.pem"
    pem.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    port = free_port()
    stack.environment |= {
        f"{PREFIX}NOTICE_ISSUER": f"http://{HOST}:{port}",
        f"{PREFIX}NOTICE_SIGNING_KEYS_FILE": str(pem),
        f"{PREFIX}NOTICE_PRIVATE_ADDRESSES": "true",
    }
    monitor = stack.start("monitor", "mosaic-sessions", "monitor", "--port", str(port))
    monitor.wait_for_line("Listening on ", timeout=START_SECONDS)
    return monitor


def _instructions(stack: Stack, keys: dict[str, str]) -> str:
    settings = "\n".join(
        f'    {app_id} = SessionClient(\n        broker_url="{stack.broker_url}",\n'
        f'        app_id="{app_id}",\n        app_key="{key}",\n    )'
        for app_id, key in keys.items()
    )
    exports = "\n".join(
        f"    export {name}='{value}'"
        for name, value in sorted(stack.environment.items())
        if name.startswith("MOSAIC_SESSIONS_") or name.endswith("_URL")
    )
    issuer = stack.environment[f"{PREFIX}NOTICE_ISSUER"]
    return f"""\
Everything is running. Logs: {stack.folder}

In an app (pip install ./client):

    from session_client import Password, SessionClient

{settings}

    login = shop.authenticate(Password("{USER}", "{PASSWORD}"))
    print(forum.silent_auth(browser_token=login.browser_token).verdict)
    forum.logout(browser_token=login.browser_token)
    print(shop.silent_auth(browser_token=login.browser_token).reason)

For mosaic-sessions, in another terminal:

{exports}

For examples/backchannel_app.py in the forum's place, which is told of logouts, after these:

    mosaic-sessions apps set-notice forum --notice-url http://127.0.0.1:8000/backchannel-logout
    export WORKER_JWKS_URL={issuer}/jwks.json
    export WORKER_ISSUER={issuer}
    export CLIENT_ID=client-forum
    uvicorn examples.backchannel_app:app

Ctrl-C ends it and removes everything."""


if __name__ == "__main__":
    sys.exit(main())

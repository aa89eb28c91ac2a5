"""`make dev`: the whole system on a laptop until Ctrl-C, and what to paste into an app."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

from sandbox.stack import Stack

APPS = ("shop", "forum")


def main() -> int:
    """Start everything, print how to use it, and wait."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    with Stack(settings={"log_format": "console"}) as stack:
        stack.migrate()
        keys = {app_id: stack.add_app(app_id) for app_id in APPS}
        worker, beat = stack.worker(), stack.beat()
        print(_instructions(stack, keys), flush=True)
        while not stop.wait(1.0):
            for process in (worker, beat):
                if not process.is_alive:
                    print(process.log_text(), file=sys.stderr)
                    return 1
    return 0


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
    return f"""\
Everything is running. Logs: {stack.folder}

In an app (pip install ./client):

    import httpx
    from session_client import SessionClient

{settings}

    # what the app's front end does at Mosaic: a user logs in
    login = httpx.post(
        "{stack.mosaic_url}/_sim/login", json={{"user_id": "ada", "client_id": "client-shop"}}
    ).json()["result"]
    shop.register(user_id="ada", session_id=login["session_id"], id_token=login["id_token"])
    forum.silent_auth(user_id="ada")

For mosaic-sessions, in another terminal:

{exports}

Ctrl-C ends it and removes everything."""


if __name__ == "__main__":
    sys.exit(main())

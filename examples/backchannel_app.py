"""A web app that ends its local sessions when a user logs out at another app.

Register it at the worker with `--notice-url http://…/backchannel-logout`, then as below; `make dev`
prints all of it, ready to paste:

    export WORKER_JWKS_URL=…      # where the worker's public keys are served
    export WORKER_ISSUER=…        # the worker's MOSAIC_SESSIONS_NOTICE_ISSUER
    export CLIENT_ID=…            # this app's client at Mosaic
    uvicorn examples.backchannel_app:app

`queue_app.py` shows the other way, for an app that nobody can call.
"""

from __future__ import annotations

from urllib.parse import parse_qs

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.config import Config

from session_client import InvalidNotice, LogoutNotice, verify_logout_token

config = Config()
JWKS_URL = config("WORKER_JWKS_URL")
ISSUER = config("WORKER_ISSUER")
CLIENT_ID = config("CLIENT_ID")
MAX_BYTES = 64 * 1024

# The user of each local session; a real app keeps both in its session store.
signed_in: dict[str, str] = {}  # session_ref -> user

app = FastAPI()


@app.post("/sign-in/{user}/{session_ref}", status_code=204)
async def sign_in(user: str, session_ref: str) -> None:
    """Stand for the app's login, after which it registers the session at the worker."""
    signed_in[session_ref] = user


@app.get("/who-is-in")
async def who_is_in() -> dict[str, str]:
    """Show who is signed in here."""
    return signed_in


@app.post("/backchannel-logout")
async def backchannel_logout(request: Request) -> Response:
    """Take a notice. 200 means that it was acted on; anything else but 400 brings it again."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            return Response(status_code=413)
    token = parse_qs(body.decode(errors="replace")).get("logout_token", [""])[0]
    try:
        notice = await run_in_threadpool(verify, token)
    except InvalidNotice:
        return Response(status_code=400)
    end_local_sessions(notice)
    return Response(status_code=200, headers={"Cache-Control": "no-store"})


def verify(token: str) -> LogoutNotice:
    """Verify with the worker's keys of now. An app with much traffic keeps them for a minute."""
    jwks = httpx.get(JWKS_URL, timeout=2).raise_for_status().json()
    return verify_logout_token(token, jwks=jwks, issuer=ISSUER, audience=CLIENT_ID)


def end_local_sessions(notice: LogoutNotice) -> None:
    """End the session that is named, or all of the user's. Harmless to repeat."""
    for session_ref, user in list(signed_in.items()):
        if notice.session_ref == session_ref or (
            notice.session_ref is None and notice.user_id == user
        ):
            del signed_in[session_ref]

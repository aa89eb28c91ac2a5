"""A web app that ends its local sessions when a user logs out at another app.

Register it at the worker with `--notice-url http://…/backchannel-logout`, then as below; `make dev`
prints all of it, ready to paste:

    export SESSION_BROKER_URL=…                # the worker's broker
    export SESSION_APP_ID=… SESSION_APP_KEY=…  # as `mosaic-sessions apps add` printed it
    uvicorn examples.backchannel_app:app

`queue_app.py` shows the other way, for an app that nobody can call.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response

from session_client import AsyncSessionClient, InvalidNotice, LogoutNotice, Unavailable

client = AsyncSessionClient.from_env()
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
        notice = await client.verify_logout_token(token)
    except InvalidNotice:
        return Response(status_code=400)
    except Unavailable:
        return Response(status_code=503)
    end_local_sessions(notice)
    return Response(status_code=200, headers={"Cache-Control": "no-store"})


def end_local_sessions(notice: LogoutNotice) -> None:
    """End the session that is named, or all of the user's. Harmless to repeat."""
    for session_ref, user in list(signed_in.items()):
        if notice.session_ref == session_ref or (
            notice.session_ref is None and notice.user_id == user
        ):
            del signed_in[session_ref]

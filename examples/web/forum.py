"""A forum with an async API: who signed in at the shop is known here.

export SESSION_BROKER_URL=… SESSION_APP_ID=forum SESSION_APP_KEY=… SESSION_MARKS_URL=redis://…
export FORUM_SECRET=… FORUM_DOMAIN=apps.example.com
uvicorn examples.web.forum:app
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, FastAPI, Request, Response
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel
from starlette.config import Config
from starlette.middleware.sessions import SessionMiddleware

from session_client import (
    AsyncSessionClient,
    Authenticated,
    Code,
    CodeSent,
    Denied,
    LoginRequired,
    Password,
    SendOtp,
    StepUpRequired,
)
from session_client.starlette import RedisMarks, Sessions, SignedIn

pages = Jinja2Templates(Path(__file__).parent / "templates")

config = Config()
app = FastAPI()
sessions = Sessions(
    app,
    AsyncSessionClient.from_env(),
    marks=RedisMarks.from_env(),
    notices="/logout-notice",
    entry="/enter",
    cookie_domain=config("FORUM_DOMAIN"),
)
app.add_middleware(SessionMiddleware, secret_key=config("FORUM_SECRET"), https_only=True)
User = Annotated[SignedIn, Depends(sessions.signed_in())]
JustNow = Annotated[SignedIn, Depends(sessions.signed_in(max_age=300))]


class Credentials(BaseModel):
    """What the login's page sends."""

    user: str
    password: str


@app.get("/", dependencies=[Depends(sessions.signed_in())])
async def threads(request: Request) -> Response:
    """Show the threads to whoever is at the browser."""
    return pages.TemplateResponse(request, "forum/threads.html")


@app.get("/me")
async def me(user: User) -> dict[str, str]:
    """Say who that is."""
    return {"user": user.user_id}


@app.delete("/account")
async def close(user: JustNow) -> dict[str, str]:
    """Close the account, for who has signed in within five minutes."""
    return {"closed": user.user_id}


@app.get("/login")
async def form(request: Request) -> Response:
    """Ask for name and password."""
    return pages.TemplateResponse(request, "forum/login.html")


@app.post("/login")
async def login(request: Request, response: Response, sent: Credentials) -> dict[str, str]:
    """Sign in by name and password."""
    match await sessions.log_in(request, Password(sent.user, sent.password)):
        case Authenticated(user_id=user_id) | StepUpRequired(user_id=user_id):
            return {"user": user_id}  # the page that needs a factor asks for it
        case Denied() | LoginRequired() as no:
            response.status_code = 403
            return {"error": type(no).__name__}


@app.get("/step-up")
async def factor(request: Request) -> Response:
    """Ask for a second factor: for the account's end, or where an operator wants one of all."""
    return pages.TemplateResponse(request, "forum/code.html")


@app.post("/step-up")
async def step_up(request: Request) -> Response:
    """Have a code sent, and take it."""
    code = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True)).get("code")
    answer = await (
        sessions.begin(request, SendOtp("sms"), step_up=True)  # to whom it goes the worker knows
        if code is None
        else sessions.complete(request, Code(code), step_up=True)
    )
    match answer:
        case CodeSent():
            return pages.TemplateResponse(request, "forum/code.html")
        case Denied():
            error = {"error": "That did not work."}
            return pages.TemplateResponse(request, "forum/code.html", error, status_code=403)
        case Authenticated() | LoginRequired() | StepUpRequired():  # the page says what is missing
            return sessions.back(request)


@app.post("/logout")
async def logout(request: Request) -> Response:
    """Sign out, here and everywhere."""
    return await sessions.log_out(request)

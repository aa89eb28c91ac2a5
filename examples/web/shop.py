"""A shop: password login here, known at the forum at once, signed out everywhere.

export SESSION_BROKER_URL=… SESSION_APP_ID=shop SESSION_APP_KEY=… SESSION_MARKS_URL=redis://…
export FLASK_SECRET_KEY=… FLASK_DOMAIN=apps.example.com
flask --app examples.web.shop run
"""

from __future__ import annotations

from flask import Flask, render_template, request
from flask.typing import ResponseReturnValue as Page

from session_client import (
    Authenticated,
    Code,
    CodeSent,
    Denied,
    LoginRequired,
    Password,
    SendOtp,
    SessionClient,
    StepUpRequired,
)
from session_client.flask import RedisMarks, Sessions

app = Flask(__name__)
app.config.from_prefixed_env()  # FLASK_SECRET_KEY, FLASK_DOMAIN
app.config.update(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Lax")
sessions = Sessions(
    app,
    SessionClient.from_env(),
    marks=RedisMarks.from_env(),
    notices="/logout-notice",
    entry="/enter",
    cookie_domain=app.config["DOMAIN"],
)


@app.get("/")
@sessions.signed_in
def basket() -> str:
    """Show the basket of whoever is at the browser."""
    return render_template("shop/basket.html", user=sessions.user.user_id)


@app.route("/login", methods=["GET", "POST"])
def login() -> Page:
    """Ask for name and password."""
    if request.method == "GET":
        return render_template("shop/login.html")
    match sessions.log_in(Password(request.form["user"], request.form["password"])):
        case Authenticated() | StepUpRequired():  # the page that needs a factor asks for it
            return sessions.back()
        case Denied() | LoginRequired():
            return render_template("shop/login.html", error="That was not right."), 403


@app.route("/step-up", methods=["GET", "POST"])
def step_up() -> Page:
    """Have a code sent, and take it. No page here asks for it, but an operator may of all."""
    if request.method == "GET":
        return render_template("shop/code.html")
    code = request.form.get("code")
    answer = (
        sessions.begin(SendOtp("sms"), step_up=True)  # to whom it goes the worker knows
        if code is None
        else sessions.complete(Code(code), step_up=True)
    )
    match answer:
        case CodeSent():
            return render_template("shop/code.html")
        case Denied():
            return render_template("shop/code.html", error="That did not work."), 403
        case Authenticated() | LoginRequired() | StepUpRequired():  # the page says what is missing
            return sessions.back()


@app.post("/logout")
def logout() -> Page:
    """Sign out, here and everywhere."""
    return sessions.log_out()

"""What apps ask for. Each task opens the envelope, calls one function and answers.

All are safe to repeat: the request id finds the earlier answer, and without one the functions
themselves are harmless to run twice, also at the same time.
"""

from __future__ import annotations

from typing import Any

from celery import Task as CeleryTask

from session_client.contract import Task
from worker.app import app
from worker.logins import authenticate, refresh, start
from worker.logout import logout, receipts, revoke_user
from worker.outbox import app_notices
from worker.sign_in import describe_app, list_sessions, register, silent_auth, tickets
from worker.tasks import request_handler

Bound = CeleryTask[Any, Any]


@app.task(name=Task.REGISTER.value, bind=True)
def register_session(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Remember a session after a verified login. Repeating it updates the same row."""
    request_handler.serve_persistently(self, kwargs, register.register)


@app.task(name=Task.SILENT_AUTH.value, bind=True)
def authenticate_silently(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Get tokens from a live session. Repeating it extends the session once more."""
    request_handler.serve(self, kwargs, silent_auth.silent_auth)


@app.task(name=Task.START.value, bind=True)
def start_login(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Do the first step of a login. A repeat gets the same answer: nothing is sent twice."""
    request_handler.serve(self, kwargs, start.start)


@app.task(name=Task.AUTHENTICATE.value, bind=True)
def complete_login(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Complete a login. A repeat gets the same answer: a proof is sent once."""
    request_handler.serve(self, kwargs, authenticate.authenticate)


@app.task(name=Task.REFRESH.value, bind=True)
def refresh_tokens(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Exchange a refresh token. A repeat gets the same answer: no token is sent twice."""
    request_handler.serve(self, kwargs, refresh.refresh)


@app.task(name=Task.TICKET.value, bind=True)
def issue_ticket(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Make a ticket for another app. A repeat may make another one."""
    request_handler.serve(self, kwargs, tickets.issue)


@app.task(name=Task.REVOKE_USER.value, bind=True)
def revoke(self: Bound, *_: Any, **kwargs: Any) -> None:
    """End everything of a user here at once, and at Mosaic. A repeat finds its receipt."""
    request_handler.serve_persistently(self, kwargs, revoke_user.revoke_user)


@app.task(name=Task.STATUS.value, bind=True)
def show_status(self: Bound, *_: Any, **kwargs: Any) -> None:
    """List what the store knows. It changes nothing."""
    request_handler.serve(self, kwargs, list_sessions.status)


@app.task(name=Task.LOGOUT.value, bind=True)
def log_out(self: Bound, *_: Any, **kwargs: Any) -> None:
    """End sessions here at once, at Mosaic when it can be reached. A repeat finds its receipt."""
    request_handler.serve_persistently(self, kwargs, logout.log_out)


@app.task(name=Task.RECEIPT.value, bind=True)
def show_receipt(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Tell what became of a logout. It changes nothing."""
    request_handler.serve(self, kwargs, receipts.show)


@app.task(name=Task.ABOUT.value, bind=True)
def tell_about(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Tell an app what it may do. It changes nothing."""
    request_handler.serve(self, kwargs, describe_app.about)


@app.task(name=Task.CONFIRM_NOTICE.value, bind=True)
def confirm_notice(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Note that an app acted on a notice. Repeating it finds the notice closed."""
    request_handler.serve_persistently(self, kwargs, app_notices.confirm)

"""What apps ask for. Each task opens the envelope, calls one function and answers.

All are safe to repeat: the request id finds the earlier answer, and without one the functions
themselves are harmless to run twice, also at the same time.
"""

from __future__ import annotations

from typing import Any, cast

from celery import Task as CeleryTask

from session_client.contract import Reason, Task
from worker.app import app
from worker.errors import Unauthorized
from worker.logout import logout, receipts
from worker.outbox import app_notices
from worker.requests.commands import (
    ConfirmNoticeCommand,
    LogoutCommand,
    ReceiptCommand,
    RegisterCommand,
    SilentAuthCommand,
    StatusCommand,
)
from worker.requests.envelope import OpenedRequest
from worker.requests.outcomes import Outcome
from worker.sessions.audit import Cause
from worker.sign_in import list_sessions as listing
from worker.sign_in import register as registering
from worker.sign_in import silent_auth
from worker.tasks import request_handler, wake_ups
from worker.wiring import Services

Bound = CeleryTask[Any, Any]


@app.task(name=Task.REGISTER.value, bind=True)
def register(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Remember a session after a verified login. Repeating it updates the same row."""
    request_handler.serve_persistently(self, kwargs, _register)


@app.task(name=Task.SILENT_AUTH.value, bind=True)
def authenticate_silently(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Get tokens from a live session. Repeating it extends the session once more."""
    request_handler.serve(self, kwargs, _silent_auth)


@app.task(name=Task.START.value, bind=True)
def start_login(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Do the first step of a login. No app may: it changes nothing."""
    request_handler.serve(self, kwargs, _not_permitted)


@app.task(name=Task.AUTHENTICATE.value, bind=True)
def authenticate(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Complete a login. No app may: it changes nothing."""
    request_handler.serve(self, kwargs, _not_permitted)


@app.task(name=Task.TICKET.value, bind=True)
def issue_ticket(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Issue a ticket to another app. No app may: it changes nothing."""
    request_handler.serve(self, kwargs, _not_permitted)


@app.task(name=Task.REFRESH.value, bind=True)
def refresh(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Exchange a refresh token. No app may: it changes nothing."""
    request_handler.serve(self, kwargs, _not_permitted)


@app.task(name=Task.REVOKE_USER.value, bind=True)
def revoke_user(self: Bound, *_: Any, **kwargs: Any) -> None:
    """End everything of a user. No app may: it changes nothing."""
    request_handler.serve(self, kwargs, _not_permitted)


@app.task(name=Task.STATUS.value, bind=True)
def list_sessions(self: Bound, *_: Any, **kwargs: Any) -> None:
    """List what the store knows. It changes nothing."""
    request_handler.serve(self, kwargs, _status)


@app.task(name=Task.LOGOUT.value, bind=True)
def log_out(self: Bound, *_: Any, **kwargs: Any) -> None:
    """End sessions here at once, at Mosaic when it can be told. A repeat finds its receipt."""
    request_handler.serve_persistently(self, kwargs, _log_out)


@app.task(name=Task.RECEIPT.value, bind=True)
def show_receipt(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Tell what became of a logout. It changes nothing."""
    request_handler.serve(self, kwargs, _receipt)


@app.task(name=Task.CONFIRM_NOTICE.value, bind=True)
def confirm_notice(self: Bound, *_: Any, **kwargs: Any) -> None:
    """Note that an app acted on a notice. Repeating it finds the notice closed."""
    request_handler.serve_persistently(self, kwargs, _confirm_notice)


def _not_permitted(services: Services, request: OpenedRequest) -> Outcome:
    del services
    raise Unauthorized(Reason.NOT_PERMITTED, f"no app has been granted {request.task.value}")


def _register(services: Services, request: OpenedRequest) -> Outcome:
    command = cast("RegisterCommand", request.command)
    return registering.register(services, request.app, command, _cause(request))


def _silent_auth(services: Services, request: OpenedRequest) -> Outcome:
    command = cast("SilentAuthCommand", request.command)
    return silent_auth.silent_auth(
        services, request.app, command, _cause(request), request.deadline
    )


def _status(services: Services, request: OpenedRequest) -> Outcome:
    return listing.status(services, request.app, cast("StatusCommand", request.command))


def _log_out(services: Services, request: OpenedRequest) -> Outcome:
    command = cast("LogoutCommand", request.command)
    done = logout.log_out(services, request.app, command, request.request_id, request.digest)
    # After the commit, so that no delivery runs ahead of the row it reads.
    wake_ups.logouts(done.logouts)
    wake_ups.notices(done.notices)
    return done.outcome


def _receipt(services: Services, request: OpenedRequest) -> Outcome:
    return receipts.show(services, request.app, cast("ReceiptCommand", request.command))


def _confirm_notice(services: Services, request: OpenedRequest) -> Outcome:
    command = cast("ConfirmNoticeCommand", request.command)
    return app_notices.confirm(services, request.app, command)


def _cause(request: OpenedRequest) -> Cause:
    return Cause(request.app.app_id, request.request_id)

"""The pretend worker as a whole: which task is answered by what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from session_client import contract
from session_client._pretend import sign_in, sign_out
from session_client._pretend.logins import Logins
from session_client._pretend.planned import NotPretended, Reply
from session_client._pretend.store import Call, Store
from session_client.contract import Reason, Task, Verdict

# What a test has to plan, by the classes of requests that are planned with.
_UNKNOWN: Final = {Task.REGISTER: "Register", Task.CONFIRM_NOTICE: "ConfirmNotice"}
# What uses up a proof, and so is done once for each request id.
_ONCE: Final = {Task.START, Task.AUTHENTICATE}


class Pretend:
    """Answers as the worker would, from what is in its store."""

    def __init__(self) -> None:
        self.store = store = Store()
        logins = Logins(store)
        self._handlers: Mapping[Task, Callable[[Call], Reply]] = {
            Task.SILENT_AUTH: lambda call: sign_in.silent_auth(store, call),
            Task.REFRESH: lambda call: sign_in.refresh(store, call),
            Task.TICKET: lambda call: sign_in.issue_ticket(store, call),
            Task.START: logins.start,
            Task.AUTHENTICATE: logins.authenticate,
            Task.STATUS: lambda call: sign_out.status(store, call),
            Task.LOGOUT: lambda call: sign_out.logout(store, call),
            Task.REVOKE_USER: lambda call: sign_out.revoke(store, call),
            Task.RECEIPT: lambda call: sign_out.receipt(store, call),
        }
        self._done: dict[tuple[str, str], tuple[Call, Reply]] = {}

    def answer(self, call: Call) -> Reply:
        """Return what the worker would answer."""
        if call.task in _UNKNOWN:
            raise NotPretended(call.task.value, _UNKNOWN[call.task])
        return self._once(call) if call.task in _ONCE else self._handlers[call.task](call)

    def _once(self, call: Call) -> Reply:
        """Answer a request that comes again as before, unless its session has ended since."""
        named = call.app_id, call.request_id
        if named not in self._done:
            self._done[named] = call, self._handlers[call.task](call)
        earlier, reply = self._done[named]
        if earlier != call:
            return Reply(Verdict.INVALID_REQUEST, Reason.REQUEST_ID_REUSED.value)
        session = self.store.by_ref(reply.data.get("session_ref", ""))
        if session is None or session.ended is None:
            return reply
        return Reply(Verdict.LOGIN_REQUIRED, session.ended)


def about(app_id: str, capabilities: set[str], issuer: str, keys: list[dict[str, str]]) -> Reply:
    """Return what the worker says of an app."""
    data = {
        "app_id": app_id,
        "capabilities": sorted(capabilities),
        "methods": [method.value for method in contract.Method],
        "notice_issuer": issuer,
        "notice_audience": f"client-{app_id}",
        "notice_keys": keys,
    }
    return Reply(Verdict.OK, None, data)

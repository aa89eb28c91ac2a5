"""The simulator's verbs over HTTP, for processes that cannot call `MosaicState` directly.

`POST /_sim/<verb>` with a JSON object of named arguments answers `{"result": …}`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from simulator.controls.gates import Gate
from simulator.idp.errors import RefusedError
from simulator.idp.state import MosaicState

Verb = Callable[..., Any]


class RemoteGates:
    """Gates by number, because a gate itself cannot travel."""

    def __init__(self, state: MosaicState) -> None:
        self._state = state
        self._gates: list[Gate] = []

    def hold(self, endpoint: str, client_id: str | None = None, *, before: bool = False) -> int:
        """Close a gate and return its number."""
        self._gates.append(self._state.gates.hold(endpoint, client_id, before=before))
        return len(self._gates) - 1

    def arrived(self, gate: int) -> int:
        """How many calls have come to the gate."""
        return self._gates[gate].arrived

    def release(self, gate: int) -> None:
        """Open the gate."""
        self._gates[gate].release()


def routes(state: MosaicState) -> list[Route]:
    """The one route behind which all verbs stand."""
    verbs = _verbs(state)

    async def act(request: Request) -> JSONResponse:
        verb = verbs.get(request.path_params["verb"])
        if verb is None:
            return JSONResponse({"error": f"verbs are {', '.join(sorted(verbs))}"}, 404)
        try:
            arguments = inspect.signature(verb).bind(**(await request.json()))
            return JSONResponse({"result": _plain(verb(*arguments.args, **arguments.kwargs))})
        except (TypeError, ValueError, LookupError, RefusedError) as error:
            return JSONResponse({"error": str(error)}, 400)

    return [Route("/_sim/{verb:path}", act, methods=["POST"])]


def _verbs(state: MosaicState) -> dict[str, Verb]:
    gates = RemoteGates(state)
    return {
        "clients/add": state.add_client,
        "clients/revoke_tokens": state.revoke_client_tokens,
        "users/add": state.add_user,
        "users/change": state.change_user,
        "users/lock": state.attempts.lock,
        "users/unlock": state.attempts.unlock,
        "authenticator_apps/enrol": state.authenticator_apps.enrol,
        "passkeys/register": state.passkeys.register,
        "biometrics/register": state.biometrics.register,
        "social/add_account": state.social.add_account,
        "login": state.login,
        "factor": state.add_factor,
        "sessions/live": state.live_sessions,
        "sessions/is_live": state.is_live,
        "sessions/end": state.end_session,
        "frontend_sessions/open": state.open_frontend_session,
        "frontend_sessions/count": state.count_frontend_sessions,
        "keys/rotate": state.rotate_keys,
        "tokens/mint": state.mint_id_token,
        "outbox/latest": state.outbox.latest,
        "outbox/sent": state.outbox.sent,
        "policy/change": state.policy.change,
        "clock/now": state.clock.now,
        "clock/advance": state.clock.advance,
        "faults/add": state.faults.add,
        "faults/clear": state.faults.clear,
        "calls/count": state.calls.count,
        "calls/log": state.calls.log,
        "calls/find": state.calls.find,
        "calls/complaints": state.calls.complaints,
        "calls/forgive": state.calls.forgive,
        "calls/clear": state.calls.clear,
        "gates/hold": gates.hold,
        "gates/arrived": gates.arrived,
        "gates/release": gates.release,
    }


def _plain(result: Any) -> Any:
    if isinstance(result, list):
        return [_plain(item) for item in result]
    if is_dataclass(result) and not isinstance(result, type):
        return asdict(result)
    return result

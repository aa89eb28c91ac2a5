"""What happens to every call around its handler: counting, faults, gates."""

from __future__ import annotations

import asyncio
import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from simulator.controls.calls import Call
from simulator.controls.connection import hang_up, send_half
from simulator.controls.faults import Fault, FaultKind, Plan
from simulator.idp.client_auth import claimed_client_id, read_basic
from simulator.idp.endpoints import Endpoint
from simulator.idp.errors import RefusedError, envelope
from simulator.idp.incoming import Answer, Handler, Incoming
from simulator.idp.shapes import read_form
from simulator.idp.state import MosaicState


class Conduct:
    """One endpoint as an ASGI app."""

    def __init__(self, state: MosaicState, endpoint: Endpoint, handler: Handler) -> None:
        self._state = state
        self._endpoint = endpoint
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one call from arrival to answer."""
        request = Request(scope, receive)
        body = await request.body()
        client_id = _presumed_client(self._state, request, body)
        plan = self._state.faults.take(self._endpoint, client_id)
        call = self._record(client_id, body)
        await self._hold(call, before=True)
        await asyncio.sleep(plan.latency_seconds)
        if plan.has(FaultKind.DROP_REQUEST):
            await hang_up(scope)
            return

        answer = self._answer(_incoming(self._state, request, body, plan))
        await self._hold(call, before=False)
        if plan.has(FaultKind.DROP_ANSWER):
            await hang_up(scope)
        elif plan.has(FaultKind.CUT_BODY):
            await send_half(send, answer.status, answer.encode())
            await hang_up(scope)
        else:
            call.status = answer.status
            await _respond(answer, plan)(scope, receive, send)

    def _record(self, client_id: str | None, body: bytes) -> Call:
        now = self._state.clock.now()
        return self._state.calls.record(Call(self._endpoint, client_id, now, _session_id(body)))

    async def _hold(self, call: Call, *, before: bool) -> None:
        await self._state.gates.pass_through(call.endpoint, call.client_id, before=before)

    def _answer(self, incoming: Incoming) -> Answer:
        if fault := incoming.plan.refusal:
            return _refuse(fault)
        try:
            with self._state.lock:
                return self._handler(incoming)
        except RefusedError as refusal:
            return Answer(refusal.status, refusal.body, refusal.headers)


def _incoming(state: MosaicState, request: Request, body: bytes, plan: Plan) -> Incoming:
    return Incoming(
        state=state,
        url=str(request.url),
        path=request.path_params,
        content_type=request.headers.get("content-type", ""),
        authorization=request.headers.get("authorization", ""),
        body=body,
        plan=plan,
    )


def _presumed_client(state: MosaicState, request: Request, body: bytes) -> str | None:
    """Who seems to call. Whether they may is the handler's question."""
    authorization = request.headers.get("authorization", "")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return state.clients.holder(token.strip())
    if basic := read_basic(authorization):
        return basic[0]
    return _client_in_form(request.headers.get("content-type", ""), body)


def _client_in_form(content_type: str, body: bytes) -> str | None:
    try:
        form = read_form(content_type, body)
    except RefusedError:
        return None
    return form.get("client_id") or claimed_client_id(form.get("client_assertion", ""))


def _session_id(body: bytes) -> str | None:
    try:
        session_id = json.loads(body)["session_id"]
    except (ValueError, KeyError, TypeError):
        return None
    return session_id if isinstance(session_id, str) else None


def _refuse(fault: Fault) -> Answer:
    if fault.kind is FaultKind.STATUS:
        return Answer(fault.status, envelope(fault.status, fault.message, fault.error_code))
    after = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return Answer(429, envelope(429, "Too many requests", fault.error_code), after)


def _respond(answer: Answer, plan: Plan) -> Response:
    content = answer.encode()
    if plan.has(FaultKind.INVALID_JSON):
        content = content[: len(content) // 2]
    media_type = "application/json" if content else None
    return Response(content, answer.status, answer.headers, media_type)

"""What happens to every call around its handler: counting, faults, gates, and the check of both."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from simulator.controls.calls import Call
from simulator.controls.connection import hang_up, send_half
from simulator.controls.faults import Fault, FaultKind, Plan
from simulator.idp.client_auth import claimed_client_id, read_basic
from simulator.idp.contract import FIRST_ERROR, Published
from simulator.idp.errors import RefusedError, envelope
from simulator.idp.incoming import Answer, Handler, Incoming
from simulator.idp.reading import read_request
from simulator.idp.state import MosaicState


class Conduct:
    """One endpoint as an ASGI app."""

    def __init__(self, state: MosaicState, published: Published, handler: Handler) -> None:
        self._state = state
        self._published = published
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one call from arrival to answer."""
        request = Request(scope, receive)
        incoming, call = self._arrive(request, await request.body())
        plan = incoming.plan
        await self._hold(call, before=True)
        await asyncio.sleep(plan.latency_seconds)
        if plan.has(FaultKind.DROP_REQUEST):
            await hang_up(scope)
            return

        answer = self._answer(incoming)
        await self._hold(call, before=False)
        if plan.has(FaultKind.DROP_ANSWER):
            await hang_up(scope)
        elif plan.has(FaultKind.CUT_BODY):
            await send_half(send, answer.status, answer.encode())
            await hang_up(scope)
        else:
            call.status = answer.status
            await _respond(answer, plan)(scope, receive, send)

    def _arrive(self, request: Request, body: bytes) -> tuple[Incoming, Call]:
        content_type = request.headers.get("content-type", "")
        fields, complaints = read_request(self._published, content_type, body, request.query_params)
        client_id = _presumed_client(self._state, request, fields)
        incoming = Incoming(
            state=self._state,
            published=self._published,
            url=str(request.url),
            path=request.path_params,
            authorization=request.headers.get("authorization", ""),
            fields=fields,
            complaints=complaints,
            plan=self._state.faults.take(self._published.endpoint, client_id, body),
        )
        return incoming, self._record(client_id, incoming)

    def _record(self, client_id: str | None, incoming: Incoming) -> Call:
        fields = {**incoming.path, **incoming.fields}
        session_id = fields.get("session_id")
        call = Call(
            self._published.endpoint,
            client_id,
            self._state.clock.now(),
            session_id if isinstance(session_id, str) else None,
            fields=fields,
        )
        self._state.calls.complain(call.endpoint, "request", incoming.complaints)
        return self._state.calls.record(call)

    async def _hold(self, call: Call, *, before: bool) -> None:
        await self._state.gates.pass_through(call.endpoint, call.client_id, before=before)

    def _answer(self, incoming: Incoming) -> Answer:
        if fault := incoming.plan.refusal:
            return _refuse(fault)
        try:
            with self._state.lock:
                answer = self._handler(incoming)
        except RefusedError as refusal:
            answer = Answer(refusal.status, refusal.body, refusal.headers)
            if refusal.is_invented:
                return answer
        # Before any planned distortion: what is held against Mosaic's pages is ours alone.
        found = self._published.answer_complaints(answer.status, answer.body)
        self._state.calls.complain(self._published.endpoint, "answer", found)
        return _changed(answer, incoming.plan)


def _presumed_client(state: MosaicState, request: Request, fields: Mapping[str, Any]) -> str | None:
    """Who seems to call. Whether they may is the handler's question."""
    authorization = request.headers.get("authorization", "")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return state.clients.holder(token.strip())
    if basic := read_basic(authorization):
        return basic[0]
    client_id = fields.get("client_id") or claimed_client_id(fields.get("client_assertion", ""))
    return client_id if isinstance(client_id, str) else None


def _refuse(fault: Fault) -> Answer:
    if fault.kind is FaultKind.STATUS:
        status = fault.status or 500
        body = fault.body
        if body is None and fault.text is None:
            body = envelope(status, fault.message, fault.error_code)
        return Answer(status, body, fault.headers, fault.text, fault.content_type)
    after = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return Answer(429, envelope(429, "Too many requests", fault.error_code), after)


def _changed(answer: Answer, plan: Plan) -> Answer:
    """The answer as planned faults distort it; a refusal stays as it is."""
    if not plan.has(FaultKind.CHANGE_ANSWER) or not isinstance(answer.body, dict):
        return answer
    if answer.status >= FIRST_ERROR:
        return answer
    return replace(
        answer,
        status=plan.status(FaultKind.CHANGE_ANSWER) or answer.status,
        body=plan.changed(FaultKind.CHANGE_ANSWER, answer.body),
    )


def _respond(answer: Answer, plan: Plan) -> Response:
    content = answer.encode()
    if plan.has(FaultKind.INVALID_JSON):
        content = content[: len(content) // 2]
    media_type = answer.content_type or ("application/json" if content else None)
    return Response(content, answer.status, answer.headers, media_type)

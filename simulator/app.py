"""The simulator as one ASGI app."""

from __future__ import annotations

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from simulator.controls import admin
from simulator.idp import api
from simulator.idp.errors import envelope
from simulator.idp.methods import social
from simulator.idp.state import MosaicState


def create_app(state: MosaicState) -> Starlette:
    """Mosaic's endpoints and the simulator's own, over one *state*."""
    return Starlette(
        routes=[*api.routes(state), *social.routes(state), *admin.routes(state)],
        exception_handlers={HTTPException: _answer_unknown_path},
    )


def _answer_unknown_path(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse(envelope(status, HTTPStatus(status).phrase), status)

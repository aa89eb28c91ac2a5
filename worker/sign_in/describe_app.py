"""What the worker knows of the asking app. Costs Mosaic nothing."""

from __future__ import annotations

from session_client.contract import Verdict
from worker.requests.commands import AboutCommand
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.wiring import Services


def about(services: Services, request: OpenedRequest[AboutCommand]) -> Outcome:
    """Tell the app what it may do, and what logout tokens for it are verified with."""
    app, keys = request.app, services.notices.public_keys()["keys"]
    data = {
        "app_id": app.app_id,
        "capabilities": sorted(app.capabilities),
        "methods": sorted(app.methods),
        "notice_issuer": services.settings.notice_issuer if keys else None,
        "notice_audience": app.mosaic.client_id,
        "notice_keys": keys,
    }
    return Outcome(Verdict.OK, data=data)

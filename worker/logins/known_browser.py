"""The mark of a browser in which a user has signed in before.

It grants nothing but a count of its own: without it an attacker who fails often enough under a
user's name would keep that user out (OWASP calls it a device cookie).
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import timedelta
from typing import Any, Final

from models import new_id
from session_client import times
from worker.requests.command_fields import Command
from worker.requests.request import OpenedRequest
from worker.storage.encryption import SealedValueUnreadable
from worker.wiring import Services

LIFETIME: Final = timedelta(days=180)


def make(services: Services, app_id: str, *subjects: bytes) -> str:
    """Return a mark that names *subjects*: keyed hashes of names of the user who signed in."""
    content = {
        "id": str(new_id()),
        "at": times.to_wire(services.now()),
        "for": [subject.hex() for subject in subjects],
    }
    sealed = services.keyring.seal(json.dumps(content), _place(app_id))
    return base64.urlsafe_b64encode(sealed).decode()


def find(
    services: Services, request: OpenedRequest[Command], mark: str | None, subject: bytes
) -> str | None:
    """Return the id of a mark that names *subject*; None if it does not, or is none."""
    if mark is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(mark.encode("ascii"))
        content: dict[str, Any] = json.loads(
            services.keyring.open_bytes(raw, _place(request.app.app_id))
        )
    except (SealedValueUnreadable, binascii.Error, ValueError):
        return None
    is_too_old = services.now() - times.from_wire(content["at"]) > LIFETIME
    return None if is_too_old or subject.hex() not in content["for"] else str(content["id"])


def _place(app_id: str) -> str:
    return f"known_browser:{app_id}"

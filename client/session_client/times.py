"""Times on the wire: RFC 3339, UTC."""

from __future__ import annotations

from datetime import datetime, timezone

_UTC = timezone.utc  # datetime.UTC is of Python 3.11


def now() -> datetime:
    """Return the present moment, aware and in UTC."""
    return datetime.now(_UTC)


def to_wire(moment: datetime) -> str:
    """Return *moment* as RFC 3339 with a ``Z``. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone is not a moment")
    return moment.astimezone(_UTC).isoformat().replace("+00:00", "Z")


def from_wire(text: object) -> datetime:
    """Read an RFC 3339 time. Raises ValueError for anything else, also for a naive time."""
    if not isinstance(text, str):
        raise ValueError("a time must be a string")  # noqa: TRY004 - one error for one question
    # Python 3.10 does not read a Z.
    moment = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith("Z") else text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone is not a moment")
    return moment.astimezone(_UTC)

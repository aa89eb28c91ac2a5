"""What each answer of an app to a notice means, as one table.

Only what a second attempt cannot change is final. A 404 is not: an app that is being deployed
answers so for a minute, and a logout lost for it would leave a user signed in.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from worker.errors import NoticeRefused, NoticeUndelivered
from worker.http_client import HttpAnswer


class Meaning(Enum):
    """What becomes of the notice."""

    DELIVERED = auto()
    REFUSED = auto()  # for good
    UNDELIVERED = auto()  # this time


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of answer: how it is known, what it means."""

    statuses: Collection[int]
    meaning: Meaning
    words: str


# The first row that fits counts.
TABLE: Final = (
    # Section 2.8 asks for 200 and tolerates 204. By any other 2xx, too, an app says that it took
    # the notice, and sending it again could bring no better answer.
    Row(range(200, 300), Meaning.DELIVERED, "taken"),
    # The next address would be one that no operator registered and the worker has not checked.
    Row(range(300, 400), Meaning.REFUSED, "redirects are not followed"),
    Row((400,), Meaning.REFUSED, "the app refuses it"),  # section 2.8
    Row((401, 403), Meaning.UNDELIVERED, "something in front of the app refuses us"),
    Row((404, 405, 410), Meaning.UNDELIVERED, "no server takes notices there now"),
    Row((408, 425, 429), Meaning.UNDELIVERED, "the app asks for patience"),
    Row(range(400, 500), Meaning.UNDELIVERED, "not an answer to a notice"),
    Row(range(500, 600), Meaning.UNDELIVERED, "the app fails"),
    Row(range(1000), Meaning.UNDELIVERED, "not an answer to a notice"),
)


def accept(answer: HttpAnswer) -> None:
    """Return if the notice was taken. Raises `NoticeRefused` and `NoticeUndelivered`."""
    row = next(row for row in TABLE if answer.status in row.statuses)
    text = f"notice: {answer.status} {row.words}"
    if row.meaning is Meaning.REFUSED:
        raise NoticeRefused(text)
    if row.meaning is Meaning.UNDELIVERED:
        if answer.retry_after is None:
            raise NoticeUndelivered(text)
        raise NoticeUndelivered(text, retry_after=answer.retry_after)

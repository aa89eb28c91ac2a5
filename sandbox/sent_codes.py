"""What the pretend Mosaic sends, codes and links, shown in a terminal: there is no phone here."""

from __future__ import annotations

import zlib

from simulator.controls.remote import RemoteSimulator


class SentCodes:
    """Prints each once; not those of an earlier run, whose data are kept."""

    def __init__(self, mosaic: RemoteSimulator) -> None:
        self._outbox = mosaic.outbox
        self._shown = len(self._outbox.sent())

    def show_new(self) -> None:
        """Print what was sent since the last time."""
        messages = self._outbox.sent()
        for message in messages[self._shown :]:
            what = "A code" if message.link is None else "A link"
            print(f"{what} for {message.user_id}: {message.link or message.code}", flush=True)
        self._shown = len(messages)


def email_of(user_id: str) -> str:
    """Return an address of theirs, in a domain that no company has."""
    return f"{user_id}@example.com"


def phone_of(user_id: str) -> str:
    """Return a number of their own, below a prefix that no country has."""
    return f"+999{zlib.crc32(user_id.encode()) % 10**9:09}"

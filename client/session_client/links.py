"""The connections of one client in this process: made on first use, and again after a fork."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass

from session_client import causes
from session_client.errors import BrokerUnavailable
from session_client.inbox import Inbox
from session_client.publisher import Publisher


@dataclass(frozen=True, slots=True)
class Link:
    """What one process talks through."""

    publisher: Publisher
    inbox: Inbox
    pid: int


class Links:
    """Gives each process its own `Link`. Safe to share among threads and to carry across a fork.

    Sockets do not survive one: a client made before gunicorn forks would read its siblings'
    answers.
    """

    def __init__(self, broker_url: str, reply_url: str, client_name: str) -> None:
        self._broker_url = broker_url
        self._reply_url = reply_url
        self._client_name = client_name
        self._lock = threading.Lock()
        self._link: Link | None = None
        _all_links.add(self)

    def current(self) -> Link:
        """Return this process's link. Raises `BrokerUnavailable`."""
        link = self._link
        if link is None or link.pid != os.getpid():
            with self._lock:
                link = self._link
                if link is None or link.pid != os.getpid():
                    link = self._link = self._make()
        return link

    def close(self) -> None:
        """Close this process's connections. The next use opens new ones."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            _close(link)

    def forget(self) -> None:
        """Start afresh in a forked child, where the lock may be held by a thread that is gone."""
        self._lock = threading.Lock()
        if self._link is not None:
            _inherited.append(self._link)
            self._link = None

    def _make(self) -> Link:
        try:
            publisher = Publisher(self._broker_url, self._client_name)
        except Exception as error:  # noqa: BLE001 - some kinds of broker need a library of their own
            raise BrokerUnavailable(f"publishing: {causes.name_of(error)}") from None
        link = Link(publisher, Inbox(self._reply_url), os.getpid())
        # A client that nobody closes must not leave its sockets to the garbage collector.
        weakref.finalize(self, _close, link)
        return link


def _close(link: Link) -> None:
    if link.pid == os.getpid():
        link.publisher.close()
        link.inbox.close()


# What a child inherited is kept and never touched: its pools may be locked by threads that are
# gone, and the sockets are its parent's.
_inherited: list[Link] = []
_all_links: weakref.WeakSet[Links] = weakref.WeakSet()


def _forget_all() -> None:
    for links in tuple(_all_links):
        links.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_forget_all)

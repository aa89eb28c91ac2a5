"""Name resolution that ends in time.

The system's resolver takes no timeout and cannot be interrupted: a dead name server holds its
caller for half a minute. So it is asked in a thread of its own, which is left behind when the
deadline passes. A resolver of our own (a DNS library) would not see hosts files and the search
rules of a container network. A call that asks for a name that is being looked up joins that lookup:
a name that hangs costs one thread, however many calls wait for it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from worker.http_client.deadline import Deadline

MAX_LOOKUPS: Final = 64  # at a time; each may be a thread that hangs

Resolve = Callable[[str], Sequence[str]]
"""From a host name to its IP addresses. Raises OSError."""


def system_addresses(host: str) -> Sequence[str]:
    """Return the addresses of *host* as this machine sees them. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Resolver:
    """Asks *resolve* for names, each within a deadline. Safe for all threads."""

    def __init__(self, resolve: Resolve = system_addresses) -> None:
        self._resolve = resolve
        self._lookups: dict[str, Future[Sequence[str]]] = {}
        self._lock = threading.Lock()

    def addresses(self, host: str, deadline: Deadline) -> Sequence[str]:
        """Return all addresses of *host*, at least one.

        Raises `TimeoutError` at the deadline, another `OSError` where there is none to be had, and
        `UnicodeError` for what is no host name.
        """
        found = self._lookup(host).result(deadline.remaining())
        if not found:
            raise OSError("the host has no address")
        return found

    def _lookup(self, host: str) -> Future[Sequence[str]]:
        with self._lock:
            lookup = self._lookups.get(host)
            if lookup is None:
                if len(self._lookups) >= MAX_LOOKUPS:
                    raise OSError("too many name lookups are under way")
                lookup = Future()
                threading.Thread(
                    target=self._run, args=(host, lookup), name="name-lookup", daemon=True
                ).start()
                self._lookups[host] = lookup
            return lookup

    def _run(self, host: str, lookup: Future[Sequence[str]]) -> None:
        answer: Sequence[str] | Exception
        try:
            answer = tuple(self._resolve(host))
        except Exception as error:  # noqa: BLE001 - raised again in the threads that wait
            answer = error
        # Before a waiting thread wakes up: no later caller may join a lookup that is over.
        with self._lock:
            del self._lookups[host]
        if isinstance(answer, Exception):
            lookup.set_exception(answer)
        else:
            lookup.set_result(answer)

"""``python -m session_client.spool``: deliver what an app has spooled, until SIGTERM or Ctrl-C.

For apps in whose processes no thread can run. The client is `SessionClient.from_env`'s; the store
is ``SESSION_SPOOL``: the path of a SQLite file, or a ``postgresql://`` URL (with psycopg).
"""

from __future__ import annotations

import signal
import sys
import threading

from session_client import ConfigurationError, SessionClient, environment
from session_client.spool import LogoutSpool, PostgresSpool, SpoolStore, SqliteSpool


def main() -> int:
    """Deliver until a signal stops it."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        store = _store(environment.spool())
        client = SessionClient.from_env()
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 78
    with client:
        spool = LogoutSpool(client, store)
        spool.start()
        stop.wait()
        spool.stop()
    return 0


def _store(where: str) -> SpoolStore:
    if not where.startswith(("postgresql://", "postgres://")):
        return SqliteSpool(where)
    try:
        import psycopg  # noqa: PLC0415 - only where it is asked for
    except ImportError:
        raise ConfigurationError("SESSION_SPOOL: PostgreSQL needs psycopg installed") from None
    return PostgresSpool(lambda: psycopg.connect(where))


if __name__ == "__main__":
    sys.exit(main())

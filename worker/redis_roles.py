"""A Redis that was master and is a replica by now.

After a failover its name leads to the new master, but connections that stay open lead to the old
one, which reads, refuses to write, and never hangs up. redis-py keeps them for ever.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.connection import AbstractConnection


def is_from_a_replica(answer: object) -> bool:
    """Whether Redis refused as one that is no master, by itself or in the middle of a script."""
    if isinstance(answer, redis.exceptions.ReadOnlyError | redis.exceptions.MasterDownError):
        return True
    return isinstance(answer, redis.ResponseError) and "READONLY" in str(answer)


class MasterClient(redis.Redis):
    """Connects anew once what it is connected to is no master any more."""

    def parse_response(
        self, connection: AbstractConnection, command_name: Any, **options: Any
    ) -> Any:
        """Read an answer."""
        try:
            return super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            if is_from_a_replica(error):
                connection.disconnect()
                self.connection_pool.disconnect(inuse_connections=False)
            raise

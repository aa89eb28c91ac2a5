"""A durable spool for logouts of apps that cannot wait.

`LogoutSpool.logout` writes the request down and returns. A thread of the process, or
``python -m session_client.spool``, sends what lies there until the worker has acknowledged it,
across restarts of the app. What is written is sealed: the spool holds no secret in clear.

No call waits for the outcome, so it is reported in other ways. The logger ``session_client.spool``
gets an error for each logout that the worker refuses for good, and a warning, once a minute at
most, while logouts are not acknowledged. `LogoutSpool.counts` is for a health check, ``on_refused``
for whatever else the app wants to do.
"""

from session_client.spool.logouts import LogoutSpool
from session_client.spool.sql import PostgresSpool, SqliteSpool
from session_client.spool.store import Settlement, SpoolCounts, SpooledLogout, SpoolStore

__all__ = [
    "LogoutSpool",
    "PostgresSpool",
    "Settlement",
    "SpoolCounts",
    "SpoolStore",
    "SpooledLogout",
    "SqliteSpool",
]

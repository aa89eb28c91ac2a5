"""The frameworks' core, without I/O: who may pass, how they sign in and out, how notices end it.

`session_client.flask`, `session_client.starlette` and `session_client.django` are thin layers
around it. Another framework does what they do: describe the request as an `Incoming`, take the
generators of `guard`, `Visit` and `take_notice` to their end with `run` or `run_async`, and apply
the `Changes` to its own session and to the answer.
"""

from __future__ import annotations

from session_client.web.flows import Visit
from session_client.web.gate import glance, guard
from session_client.web.incoming import UNQUOTED, Incoming, safe_next, with_query
from session_client.web.local import KEY, Local, SignedIn, Wants, from_dict
from session_client.web.marks import Marks, MemoryMarks, NoMarks, RedisMarks, SqlMarks
from session_client.web.notices import LONGEST_NOTICE, take_notice
from session_client.web.options import Options
from session_client.web.outcome import Changes, Passed, Turned, TurnedAway
from session_client.web.running import run, run_async
from session_client.web.transfers import arrive, leave, pass_on

__all__ = [
    "KEY",
    "LONGEST_NOTICE",
    "UNQUOTED",
    "Changes",
    "Incoming",
    "Local",
    "Marks",
    "MemoryMarks",
    "NoMarks",
    "Options",
    "Passed",
    "RedisMarks",
    "SignedIn",
    "SqlMarks",
    "Turned",
    "TurnedAway",
    "Visit",
    "Wants",
    "arrive",
    "from_dict",
    "glance",
    "guard",
    "leave",
    "pass_on",
    "run",
    "run_async",
    "safe_next",
    "take_notice",
    "with_query",
]

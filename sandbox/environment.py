"""The one place where the sandbox looks at the caller's environment.

Everything it starts gets an environment written out by the code that starts it, so that
a variable set on one laptop cannot change what a test proves.
"""

from __future__ import annotations

import os

TEST_POSTGRES_URL = "TEST_POSTGRES_URL"


def external_postgres_url() -> str | None:
    """URL of a PostgreSQL server that the caller lends to the tests, if there is one."""
    return _get(TEST_POSTGRES_URL)


def coverage_variables() -> dict[str, str]:
    """What a child process needs for its lines to be counted by `make test`; often nothing."""
    name = "COVERAGE_PROCESS_CONFIG"
    value = _get(name)
    return {name: value} if value else {}


def soak_minutes() -> float:
    """How long `make soak` shall take."""
    return float(_get("SOAK_MINUTES") or "10")


def is_asked_for_pictures() -> bool:
    """Whether `make test-browser` shall draw the pictures of docs/ anew."""
    return _get("PICTURES") is not None


def base_variables() -> dict[str, str]:
    """What every program needs to run at all, and nothing that could configure ours."""
    names = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "SYSTEMROOT")
    return {name: value for name in names if (value := _get(name)) is not None}


def _get(name: str) -> str | None:
    # The ban guards the product's settings. This is about the machine we test on.
    return os.environ.get(name) or None  # noqa: TID251

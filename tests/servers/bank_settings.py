"""The bank of `examples/web`, with a view more."""

from __future__ import annotations

from examples.web.bank.settings import *  # noqa: F403
from examples.web.bank.settings import DATABASES

ROOT_URLCONF = "tests.servers.bank_urls"
# Many write their sessions at once, which SQLite lets one do after the other: it waits for its turn
# only where a transaction begins with writing, and not for long by itself.
DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE", "timeout": 60}  # type: ignore[assignment]

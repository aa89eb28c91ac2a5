"""What a pooler cannot pass on when a connection is made, and each transaction is told instead."""

from __future__ import annotations

import pytest

from worker.errors import ConfigurationError
from worker.storage.pooler import settings_in


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("-c a=1 -c b=2 -c a=3", {"a": "3", "b": "2"}),
        ("-ca=1 --lock-timeout=5s", {"a": "1", "lock_timeout": "5s"}),
        (r"-c search_path=one,\ two", {"search_path": "one, two"}),
        ("", {}),
    ],
)
def test_options_are_read_as_the_server_reads_them(options: str, told: dict[str, str]) -> None:
    assert settings_in(options) == told


@pytest.mark.parametrize("options", ["-B 5", "-c", "-c a", "nonsense", "-c a=1 -F"])
def test_options_that_are_no_settings_are_refused(options: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        settings_in(options)

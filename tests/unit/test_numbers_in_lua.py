"""Numbers that a script of Redis and the Python around it must have alike."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from worker.http_client import MAX_RETRY_AFTER_SECONDS
from worker.traffic import snapshot


@pytest.mark.parametrize(
    ("script", "name", "microseconds"),
    [
        ("basics", "LONGEST_PAUSE", MAX_RETRY_AFTER_SECONDS * 1e6),
        ("basics", "LONGEST_PAUSE", snapshot.LONGEST_PAUSE),
        ("admission", "LONGEST_WAIT", snapshot.LONGEST_WAIT),
    ],
)
def test_a_script_has_the_number_that_python_has(
    script: str, name: str, microseconds: float
) -> None:
    text = (files("worker.traffic") / "lua" / f"{script}.lua").read_text()

    assert re.findall(rf"local {name} = (\d+)", text) == [f"{microseconds:.0f}"]

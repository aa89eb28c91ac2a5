"""A checkout stays as it is when it is tested: pictures are drawn anew where that is asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.pictures import IMAGES, picture

ROOT = Path(__file__).parents[2]


def test_a_picture_is_kept_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PICTURES", raising=False)
    unasked = picture("top")
    monkeypatch.setenv("PICTURES", "1")

    assert unasked is None
    assert picture("top") == IMAGES / "top.png"
    assert IMAGES == ROOT / "docs" / "images"


def test_no_test_at_a_browser_takes_a_picture_in_another_way() -> None:
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests/browser").glob("test_*.py"))
    taken = re.findall(r"\.screenshot\((.*)\)", tests)

    assert len(taken) == tests.count("screenshot") >= 2
    assert all(re.fullmatch(r"path=picture\(.+\)", how) for how in taken)

"""Marks in an app's own Redis or database: found by any process, for as long as they are needed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from sandbox.ports import HOST
from sandbox.redis_server import RedisServer
from sandbox.sentinel import NAME, Sentinel
from session_client import ConfigurationError
from session_client.web import Marks, MemoryMarks, NoMarks, RedisMarks, SqlMarks


@pytest.fixture(params=["memory", "redis", "sqlite", "postgresql"])
def marks(request: pytest.FixtureRequest, tmp_path: Path) -> Marks:
    def sql(connect: Callable[[], object], placeholder: str) -> Marks:
        kept = SqlMarks(connect, placeholder=placeholder)
        kept.create_table()
        kept.create_table()
        return kept

    match request.param:
        case "redis":
            return RedisMarks(request.getfixturevalue("redis_url"))
        case "sqlite":
            return sql(lambda: sqlite3.connect(tmp_path / "marks.db"), "?")
        case "postgresql":
            url: str = request.getfixturevalue("empty_postgres_url")
            url = url.replace("postgresql+psycopg://", "postgresql://")
            return sql(lambda: psycopg.connect(url), "%s")
        case _:
            return MemoryMarks()


def test_a_mark_is_found_until_it_is_over_and_the_latest_counts(marks: Marks) -> None:
    marks.put("a", 1.5, 60)
    marks.put("a", 2.5, 60)
    marks.put("over", 1.0, 0.0001)
    marks.put("b", 3.5, 60)

    found = marks.look(["a", "over", "unknown"])

    assert {name: at for name, at in found.items() if name != "over"} == {"a": 2.5}
    assert "b" in marks.look(["b"])


def test_no_marks_keep_none() -> None:
    NoMarks().put("a", 1.0, 60)

    assert NoMarks().look(["a"]) == {}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:6379", "must be a URL"),
        ("amqp://localhost", "must name a Redis"),
        ("redis://localhost:port/0", "not a valid URL"),
        ("redis://localhost/0?socket_timout=1", "option socket_timout"),
        ("redis://main/0?sentinels=nowhere", "not a valid URL"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_at_once(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^url: .*{why}"):
        RedisMarks(url)


def test_marks_are_kept_behind_sentinels_too() -> None:
    with RedisServer() as master, RedisServer() as replica, Sentinel(master, replica) as sentinel:
        marks = RedisMarks(f"redis://{NAME}/1?sentinels={HOST}:{sentinel.port}")
        marks.put("a", 1.5, 600)

        assert marks.look(["a"]) == {"a": 1.5}


def test_the_address_of_marks_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.delenv("SESSION_MARKS_URL", raising=False)
    with pytest.raises(ConfigurationError, match="SESSION_MARKS_URL"):
        RedisMarks.from_env()

    monkeypatch.setenv("SESSION_MARKS_URL", redis_url)

    assert RedisMarks.from_env().look(["a"]) == {}


def test_a_table_that_is_not_there_is_told_and_leaves_nothing_open(tmp_path: Path) -> None:
    marks = SqlMarks(lambda: sqlite3.connect(tmp_path / "none.db"), placeholder="?")

    with pytest.raises(sqlite3.OperationalError):
        marks.put("a", 1.0, 60)

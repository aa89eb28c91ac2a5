"""One line an event on standard error, in one form, whoever logs it."""

from __future__ import annotations

import json
import subprocess
import sys
from textwrap import dedent
from typing import Any

import pytest

from tests.unit.test_settings import KEYS

TOKEN = "eyJhbGciOiJub25lIn0.e30."


def written(script: str, **settings: str) -> list[str]:
    """Return the lines that *script* writes in a process whose logs are ours."""
    variables = KEYS | {
        f"MOSAIC_SESSIONS_{name.upper()}": value for name, value in settings.items()
    }
    preface = f"""
        import logging, sys, threading
        import structlog
        from worker import logs
        from worker.celery_support import malformed
        from worker.settings.model import read
        variables = {variables!r}
        logs.configure(read(variables))
        log = structlog.get_logger()
    """
    process = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", dedent(preface) + dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert process.stdout == ""
    return process.stderr.splitlines()


def events(script: str, **settings: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(script, **settings)]


def test_our_lines_and_those_of_libraries_have_the_same_form() -> None:
    ours, theirs = events("""
        structlog.contextvars.bind_contextvars(task_id="abc")
        log.warning("happened", count=3)
        logging.getLogger("a.library").warning("it %s", "happened")
    """)

    del ours["timestamp"], theirs["timestamp"]
    both = {"level": "warning", "task_id": "abc"}
    assert ours == both | {"event": "happened", "logger": "__main__", "count": 3}
    assert theirs == both | {"event": "it happened", "logger": "a.library"}


def test_a_line_is_named_for_the_module_that_logs_it() -> None:
    (line,) = events("malformed.say_rejected('x')")

    assert line["logger"] == "worker.celery_support.malformed"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_looks_like_a_token_is_written_by_nobody(log_format: str) -> None:
    lines = written(
        f"""
        log.warning('seen 1', value='Bearer {TOKEN}')
        log.warning('seen 2 {TOKEN}')
        logging.getLogger('a.library').warning('seen 3 %s', '{TOKEN}')
        logging.getLogger('a.library').warning('seen 4', extra={{'data': '{TOKEN}'}})
        try:
            raise ValueError('{TOKEN}')
        except ValueError:
            log.exception('seen 5')
        """,
        log_format=log_format,
    )

    for number in range(1, 6):
        assert sum(f"seen {number}" in line for line in lines) == 1
    assert TOKEN not in "\n".join(lines)


FORGED = "[info] request_answered"
BREAKS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\x1b[2K\x1b[1G", "\b" * 80]


def test_no_text_can_write_a_line_of_its_own() -> None:
    texts = [f"x{break_}{FORGED}" for break_ in BREAKS]
    lines = written(
        f"""
        for TEXT in {texts!r}:
            log.warning('seen 1', value=TEXT)
            log.warning('seen 2' + TEXT)
            log.warning('seen 3', value=[TEXT], more={{TEXT: TEXT}})
            logging.getLogger('a.library').warning('seen 4 %s', TEXT)
            try:
                raise ValueError(TEXT)
            except ValueError:
                log.exception('seen 5')
                logging.getLogger('a.library').exception('seen 6')
        """,
        log_format="console",
    )

    for number in range(1, 7):
        assert sum(f"seen {number}" in line for line in lines) == len(BREAKS)
    for line in lines:
        assert line.isprintable()
        assert not line.startswith(FORGED)


def test_an_error_brings_the_way_it_took() -> None:
    (line,) = events("""
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("failed")
    """)

    assert line["level"] == "error"
    assert line["exception"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("log_level", "seen"),
    [("debug", "debug info error"), ("info", "info error"), ("error", "error")],
)
def test_what_is_below_the_level_is_not_written(log_level: str, seen: str) -> None:
    lines = events(
        """
        for write in (log, logging.getLogger("a.library")):
            write.debug("debug")
            write.info("info")
            write.error("error")
        """,
        log_level=log_level,
    )

    assert [line["event"] for line in lines] == seen.split() * 2


def test_lines_of_threads_stay_whole() -> None:
    lines = events("""
        def write(name):
            for _ in range(200):
                log.info("happened", by=name, filler="x" * 3000)

        threads = [threading.Thread(target=write, args=[name]) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    """)

    assert sorted(line["by"] for line in lines) == sorted("abcd" * 200)


def test_a_process_configured_again_logs_as_it_was_told_last() -> None:
    first, second = written(
        """
        log.warning("first")
        logs.configure(read(dict(variables, MOSAIC_SESSIONS_LOG_FORMAT="console")))
        log.warning("second")
        """
    )

    assert json.loads(first)["event"] == "first"
    assert not second.startswith("{")
    assert "second" in second

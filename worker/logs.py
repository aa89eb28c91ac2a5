"""Logs are events: a constant name, fields, one line each, and no secret in any of them."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import structlog
from structlog.types import Processor

from worker import metrics
from worker.settings.model import Settings

log = structlog.get_logger()

# JWTs and JWEs in compact form, and anything after "Bearer".
_TOKEN_SHAPED: Final = re.compile(
    r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}|(?i:bearer)\s+[A-Za-z0-9._~+/=-]+"
)
# What Celery's own records carry: arguments, return values, message bodies.
_CARRIES_PAYLOAD: Final = ("data", "args", "kwargs", "body")


def call_operator(error: Exception, app_id: str = "", **facts: object) -> None:
    """Say that an operator must act, and count it, which raises the alert.

    *app_id* is that of a registered app. No traceback: the error says it all, and holds no data.
    """
    log.error("operator_must_act", error=type(error).__name__, detail=str(error), **facts)
    metrics.operator_must_act(error, app_id)


def scrub(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Replace anything token-shaped. The last processor: nothing is added after it."""
    return {
        key: _TOKEN_SHAPED.sub("[secret]", value) if isinstance(value, str) else value
        for key, value in event.items()
    }


def keep_to_its_line(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> Mapping[str, Any]:
    """Write what would begin a line, or move the cursor, so that it does neither.

    For text that people read; JSON writes it so anyway. What an exception says of itself may have
    lines of its own: each is marked as part of it.
    """
    return {
        key: _marked(value) if key == "exception" else _written_out(value)
        for key, value in event.items()
    }


def _written_out(value: Any) -> Any:
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)


def _marked(text: str) -> str:
    return "\n".join(f"  | {_written_out(line)}" for line in text.splitlines())


class PayloadFilter(logging.Filter):
    """Keeps Celery's payload-carrying attributes from any formatter, ours or another's."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Remove them; the record itself always passes."""
        for name in _CARRIES_PAYLOAD:
            if name != "args" and hasattr(record, name):
                delattr(record, name)
        return True


class _Output:
    """Writes finished lines to standard error, each in one call: lines of threads stay whole.

    Without a lock of its own, which a child forked meanwhile would never see opened.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def write(self, line: str) -> None:
        sys.stderr.write(line + "\n")

    debug = info = warning = error = critical = write


def configure(settings: Settings) -> None:
    """Send all logs of this process to standard error, through the same processors."""
    level = settings.log_level.upper()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[Processor] = [structlog.processors.JSONRenderer()]
    if settings.log_format == "console":
        rendered = [keep_to_its_line, structlog.dev.ConsoleRenderer(colors=False)]
    finish: list[Processor] = [structlog.processors.format_exc_info, scrub, *rendered]
    # Our own lines take no turn through the standard library: there is one for each request.
    # Named for the module that logs, as theirs are.
    named = structlog.stdlib.LoggerFactory(ignore_frame_names=[__name__])
    # The list is filled anew, never replaced: a logger keeps the one it was first used with, and
    # would go on as before when a process is configured again.
    processors: list[Processor] = structlog.get_config()["processors"]
    processors[:] = [*shared, *finish]
    structlog.configure(
        processors=processors,
        logger_factory=lambda *name: _Output(named(*name).name),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(PayloadFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # The first two log full URLs at INFO, the third how it looked up a revision.
    for name in ("httpx", "httpcore", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # At DEBUG it writes each job's arguments and body as they came, sealed or not.
    logging.getLogger("celery.pool").setLevel(logging.INFO)
    if settings.log_level != "debug":
        # A line when a task comes and one when it goes say less than ours, at twice the cost.
        for name in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(name).setLevel(logging.WARNING)

"""What every verb shares: the real things, and errors in one line with an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

import click
import redis
from sqlalchemy.exc import SQLAlchemyError

from worker import startup, wiring
from worker.errors import ConfigurationError, SessionWorkerError, StoreUnavailable
from worker.logout.end_sessions import Ended
from worker.operations import key_check, overview
from worker.operations.app_description import AppError
from worker.operations.health import database_trouble, redis_trouble
from worker.settings import environment
from worker.wiring import Services

FAILED: Final = 1

override_guard_option: Callable[[Any], Any] = click.option(
    "--override-guard", is_flag=True, help="Also when it is an implausible share of all sessions."
)


class Failure(click.ClickException):
    """Ends the command with one line on standard error. The message says what to do next."""

    exit_code = FAILED

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Misconfigured(Failure):
    """The same, when the settings must be put right first."""

    exit_code = startup.EXIT_CODE


class Nouns(click.Group):
    """The root group: no error of ours, of Redis or of the database ends in a traceback.

    Tracebacks name local values, and say nothing to somebody who has to put it right.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; turn what it raises into a `Failure`."""
        try:
            environment.tell_old_names()
            return super().invoke(ctx)
        except (SessionWorkerError, SQLAlchemyError, redis.RedisError, UnicodeError) as error:
            raise failure_of(error) from None


def services() -> Services:
    """Return this process's services. Raises `ConfigurationError`.

    `main` passes the stack that closes them; without one they are the caller's to close.
    """
    found = wiring.current()
    opened = click.get_current_context().find_object(ExitStack)
    if opened is not None:
        opened.callback(found.close)
    return found


def sealing_services() -> Services:
    """Return the services, for a verb that changes what is sealed or who uses it.

    Raises `ConfigurationError` when our keys are not those of the store: what this process sealed
    no worker could open. An operator's shell may have other settings than the workers.
    """
    found = services()
    key_check.check(found.store, found.keyring)
    return found


def require_app(app_id: str) -> None:
    """Return if there is such an app: a misspelt one has no sessions and no notices."""
    if not overview.is_app(services(), app_id):
        raise Failure(f"there is no app {app_id!r} (mosaic-sessions apps list)")


def wake_what_ended(ended: Ended) -> bool:
    """Have the workers tell Mosaic and the apps at once; False when beat's sweep must wake some."""
    # Here, since importing Celery takes longer than most verbs.
    from worker.tasks import wake_ups  # noqa: PLC0415

    return wake_ups.ended(ended)


def wake_what_is_due() -> None:
    """Have the workers take up again at once what an operator made due."""
    from worker.tasks import wake_ups  # noqa: PLC0415

    wake_ups.due(services())


def is_at_a_terminal() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty()


def failure_of(error: Exception) -> Failure:
    """Return what to tell the operator. Quotes only messages of our own, which name no secret."""
    if isinstance(error, AppError):
        return Failure(str(error))
    if isinstance(error, ConfigurationError):
        return Misconfigured(str(error))
    if isinstance(error, StoreUnavailable | SQLAlchemyError):
        return Failure(database_trouble(error))
    if isinstance(error, redis.RedisError):
        return Failure(redis_trouble(error))
    if isinstance(error, UnicodeError):
        return Failure("that is not UTF-8 text: check the arguments, the file and the locale")
    return Failure(str(error))

"""What every verb shares: the real things, and errors in one line with an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Final

import click
import redis
from sqlalchemy.exc import SQLAlchemyError

from migrations import target
from worker import startup, wiring
from worker.errors import ConfigurationError, SessionWorkerError, StoreUnavailable
from worker.logout.end_sessions import Ended
from worker.operations import key_check, overview
from worker.operations.app_description import AppError
from worker.operations.schema import schema_trouble
from worker.operations.troubles import database_trouble, redis_trouble
from worker.wiring import Services

FAILED: Final = 1
_SERVICES: Final = f"{__name__}.services"  # those that the verb uses
_NOT_TEXT: Final = "that is not UTF-8 text: check the arguments, the file and the locale"

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


class NotUnderstood(Failure):
    """The same, when the arguments cannot be understood."""

    exit_code = 2


class Defect(Failure):
    """The same, for a fault in this program."""

    exit_code = 70  # EX_SOFTWARE


class Nouns(click.Group):
    """The root group: no error ends in a traceback, unless --debug asks for one.

    Tracebacks name local values, and say nothing to an operator who has to put it right.
    """

    def make_context(self, *arguments: Any, **named: Any) -> click.Context:
        """Read the options before the verb."""
        try:
            return super().make_context(*arguments, **named)
        except click.UsageError as error:
            raise _not_understood(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; turn what it raises into a `Failure`."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _not_understood(error) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params["debug"]:
                raise
            raise failure_of(error) from None


def _not_understood(error: click.UsageError) -> click.ClickException:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error  # its message is the help
    where = "mosaic-sessions" if error.ctx is None else error.ctx.command_path
    return NotUnderstood(f"{error.format_message()} ({where} --help)")


def services() -> Services:
    """Return this process's services. Raises `ConfigurationError`.

    `main` passes the stack that closes them; without one they are the caller's to close.
    """
    found = wiring.current()
    context = click.get_current_context()
    context.meta[_SERVICES] = found
    opened = context.find_object(ExitStack)
    if opened is not None:
        opened.callback(found.close)
    return found


def keyed_services() -> Services:
    """Return the services, for a verb that seals, or finds something by a keyed hash.

    Raises `ConfigurationError` when our keys are not those of the store: what this process sealed
    no worker could open, and it would find nothing. An operator's shell may have other settings
    than the workers.
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

    return wake_ups.ended(services(), ended)


def wake_what_is_due() -> None:
    """Have the workers take up again at once what an operator made due."""
    from worker.tasks import wake_ups  # noqa: PLC0415

    wake_ups.due(services())


def is_at_a_terminal() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty()


def failure_of(error: Exception) -> Failure:
    """Return what to tell the operator. Quotes only messages of our own, which name no secret."""
    for kinds, failure in _FAILURES:
        if isinstance(error, kinds):
            return failure(error)
    return Defect(
        f"a fault in this program ({type(error).__name__}): repeat it with mosaic-sessions --debug "
        "and report what that prints"
    )


def _of_database(error: Exception) -> Failure:
    behind = _schema_trouble(error)
    return Misconfigured(behind) if behind else Failure(database_trouble(error))


def _schema_trouble(error: Exception) -> str | None:
    """Say whether it is because of the schema, which is easily put right."""
    context = click.get_current_context(silent=True)
    found: Services | None = None if context is None else context.meta.get(_SERVICES)
    if found is None:
        return None
    with suppress(SessionWorkerError, SQLAlchemyError):
        store = found.store
        # A server that does not answer would be waited for once more.
        if store.is_sqlite or not isinstance(error, StoreUnavailable):
            with store.read() as connection:
                return schema_trouble(target.revision_of(connection))
    return None


# The first that fits.
_FAILURES: Final[tuple[tuple[tuple[type[Exception], ...], Callable[[Any], Failure]], ...]] = (
    ((AppError,), lambda error: Failure(str(error))),
    ((ConfigurationError,), lambda error: Misconfigured(str(error))),
    ((StoreUnavailable, SQLAlchemyError), _of_database),
    ((redis.RedisError,), lambda error: Failure(redis_trouble(error))),
    ((UnicodeError,), lambda _: Failure(_NOT_TEXT)),
    ((SessionWorkerError,), lambda error: Failure(str(error))),
)

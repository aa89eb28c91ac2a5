"""`mosaic-sessions login-limits`: who cannot sign in for too many attempts, and may again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from worker.cli import output
from worker.cli.common import keyed_services
from worker.operations import login_limits as operations
from worker.operations.login_limits import LimitInfo, Whom


@click.group("login-limits")
def login_limits() -> None:
    """See what is counted against a user or an address that signs in, and let them try again."""


def _whom_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--address", metavar="IP", help="Of an IP address, at each app."),
        click.option("--type", "login_type", help="What the login is, if Mosaic has it added."),
        click.option("--login", help="Of what is typed to sign in: a name, an address of mail, …"),
        click.option("--user", "user_id", metavar="ID", help="Of a user, by the id at Mosaic."),
    ):
        verb = option(verb)
    return verb


@login_limits.command("show")
@_whom_options
@output.as_json_option
def show(*, as_json: bool, **whom: str | None) -> None:
    """Show what is counted now: failures, and codes and links that were sent."""
    asked = _whom(**whom)
    found = operations.show(keyed_services(), asked)
    if as_json:
        output.print_json({"limits": found})
    elif not found:
        click.echo("Nothing is counted.")
    else:
        _print(found)


@login_limits.command("lift")
@_whom_options
@click.option("--reason", required=True, help="Why; kept in the audit trail.")
@output.as_json_option
def lift(*, reason: str, as_json: bool, **whom: str | None) -> None:
    """Have those counts begin anew. An attacker who guesses begins anew, too: look at it first."""
    if not reason.strip():
        raise click.UsageError("--reason must say something")
    asked = _whom(**whom)
    found = operations.lift(keyed_services(), asked, reason=reason.strip())
    if as_json:
        output.print_json({"lifted": found})
        return
    click.echo(f"Lifted: {len(found)}")
    if found:
        _print(found)


def _whom(
    *,
    user_id: str | None,
    login: str | None,
    login_type: str | None,
    address: str | None,
) -> Whom:
    if sum(selector is not None for selector in (user_id, login, address)) != 1:
        raise click.UsageError("say whose: --user, --login or --address, and only one of them")
    if login_type is not None and login is None:
        raise click.UsageError("--type says what --login is")
    return Whom(user_id=user_id, login=login, login_type=login_type, address=address)


def _print(found: tuple[LimitInfo, ...]) -> None:
    output.print_table(
        ("limit", "app", "browser", "counted", "full", "empty at"),
        (
            (
                one.limit,
                one.app_id or "all",
                one.browser,
                f"{one.counted} of {one.most}",
                "yes" if one.is_full else "no",
                one.empty_at,
            )
            for one in found
        ),
    )

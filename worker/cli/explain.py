"""`mosaic-sessions explain`: why a session is as it is, who was told of it, and what comes next."""

from __future__ import annotations

from uuid import UUID

import click

from worker.cli import output
from worker.cli.common import Failure, services
from worker.operations import explain as explaining
from worker.operations.views import Explanation, Facts


@click.group()
def explain() -> None:
    """Say why a session is alive or ended, who shares it, who was told what, what comes next."""


@explain.command("session")
@click.argument("ref", type=click.UUID)
@output.as_json_option
def session(*, ref: UUID, as_json: bool) -> None:
    """Explain one session, by its reference."""
    found = explaining.session(services(), ref)
    _print(found, f"there is no session {ref} (mosaic-sessions sessions list --all)", as_json)


@explain.command("user")
@click.argument("user_id")
@output.as_json_option
def user(*, user_id: str, as_json: bool) -> None:
    """Explain a user's newest sessions, and what was revoked of them."""
    found = explaining.user(services(), user_id)
    _print(found, f"nothing is known of a user {user_id!r}", as_json)


@explain.command("receipt")
@click.argument("receipt_id", type=click.UUID)
@output.as_json_option
def receipt(*, receipt_id: UUID, as_json: bool) -> None:
    """Explain what became of a logout, by the receipt that the app has got."""
    found = explaining.receipt(services(), receipt_id)
    _print(found, f"there is no receipt {receipt_id}: it is the receipt_id of a logout", as_json)


def _print(found: Explanation | None, nothing: str, as_json: bool) -> None:  # noqa: FBT001
    if found is None:
        raise Failure(nothing)
    if as_json:
        output.print_json(found)
        return
    _print_explanation(found)
    for one in found.sessions:
        click.echo()
        _print_explanation(one)


def _print_explanation(one: Explanation) -> None:
    click.echo(f"{output.shown(one.about)}: {one.state}")
    _print_facts("why", one.why)
    _print_facts("extended by", one.extended_by)
    _print_facts("shared by", one.shared_by)
    _print_facts("told", one.told)
    _print_facts("next", one.next)


def _print_facts(title: str, facts: Facts) -> None:
    if facts:
        click.echo(f"  {title}")
    for fact in facts:
        at = "" if fact.at is None else output.shown(fact.at)
        click.echo(f"    {at:<20} {output.shown(fact.says)}")

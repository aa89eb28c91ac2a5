"""`mosaic-sessions sessions`: who is signed in where, and what became of a session."""

from __future__ import annotations

from dataclasses import asdict
from uuid import UUID

import click

from worker.cli import output
from worker.cli.door import Failure, services
from worker.lifecycle import overview
from worker.lifecycle.overview import SessionInfo, SessionStory


@click.group()
def sessions() -> None:
    """Look at sessions. A session's id is a secret and never shown; its reference is."""


@sessions.command("list")
@click.option("--user", help="Only this user's.")
@click.option("--app", help="Only those this app shares.")
@click.option("--all", "include_ended", is_flag=True, help="Also those that ended or expired.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@output.as_json_option
def list_(
    *, user: str | None, app: str | None, include_ended: bool, limit: int, as_json: bool
) -> None:
    """List sessions, newest first."""
    found = overview.list_sessions(
        services(), user_id=user, app_id=app, include_ended=include_ended, limit=limit
    )
    if as_json:
        output.print_json(found)
        return
    output.print_table(
        ("session", "user", "device", "apps", "amr", "signed in", "expires", "ended", "cause"),
        (
            (
                session.session_ref,
                session.user_id,
                session.device_id,
                session.apps,
                session.amr,
                session.authenticated_at,
                session.expires_at,
                session.ended_at,
                session.end_cause,
            )
            for session in found.sessions
        ),
    )
    if found.has_more:
        click.echo(f"There are more than {limit}: narrow it with --user or --app, or raise --limit")


@sessions.command("show")
@click.argument("ref", type=click.UUID)
@output.as_json_option
def show(*, ref: UUID, as_json: bool) -> None:
    """Tell all about one session: its apps, its logout, its audit trail."""
    story = overview.session_story(services(), ref)
    if story is None:
        raise Failure(f"there is no session {ref} (mosaic-sessions sessions list --all)")
    if as_json:
        output.print_json(story)
        return
    _print_story(story)


def _print_story(story: SessionStory) -> None:
    output.print_facts(_facts(story.session))
    click.echo("\nShared by")
    output.print_table(
        ("app", "first signed in", "last signed in", "access token until"),
        (tuple(asdict(share).values()) for share in story.shares),
    )
    click.echo("Logout at Mosaic")
    output.print_facts(
        {"state": "none is due"}
        if story.logout is None
        else {name.replace("_", " "): value for name, value in asdict(story.logout).items()}
    )
    click.echo("\nWhat happened")
    output.print_table(
        ("at", "event", "app", "detail", "request"),
        (tuple(asdict(happening).values()) for happening in story.trail),
    )


def _facts(session: SessionInfo) -> dict[str, object]:
    facts = {name.replace("_", " "): value for name, value in asdict(session).items()}
    del facts["apps"]  # they have a table of their own
    return facts

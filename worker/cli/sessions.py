"""`mosaic-sessions sessions`: who is signed in where, and what became of a session."""

from __future__ import annotations

from dataclasses import asdict
from uuid import UUID

import click
from sqlalchemy import ColumnElement

from worker.cli import common, output
from worker.cli.common import Failure, services
from worker.logout import guards
from worker.logout.revoke import revoke as revoke_sessions
from worker.operations import overview, revoke_app
from worker.operations.views import SessionDetails, SessionInfo


@click.group()
def sessions() -> None:
    """Look at sessions, and end them. A session's id is a secret, never shown: its reference is."""


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
    if app is not None:
        common.require_app(app)
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
    """Tell all about one session: its apps, who must be told, its audit trail."""
    details = overview.session_details(services(), ref)
    if details is None:
        raise _no_session(ref)
    if as_json:
        output.print_json(details)
        return
    _print_details(details)


@sessions.command("revoke")
@click.argument("ref", type=click.UUID, required=False)
@click.option("--user", help="All of this user's.")
@click.option("--app", help="All that this app shares.")
@click.option("--reason", required=True, help="Why; kept in the audit trail.")
@common.override_guard_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@output.as_json_option
def revoke(  # noqa: PLR0913 - one for each option
    *,
    ref: UUID | None,
    user: str | None,
    app: str | None,
    reason: str,
    override_guard: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """End sessions here and at Mosaic, and tell their apps."""
    if sum(selector is not None for selector in (ref, user, app)) != 1:
        raise click.UsageError("say which: a reference, --user or --app, and only one of them")
    if not reason.strip():
        raise click.UsageError("--reason must say something")
    which = _which(ref, user, app)
    if not yes:  # else the operator is not asked: to count millions takes long
        _confirm(which)
    reason = reason.strip()
    if app is None:
        ended = revoke_sessions(
            services(),
            which,
            reason=reason,
            override=override_guard,
            all_of_user=user,
            session=ref,
        )
        count, is_all_woken = ended.count, common.wake_what_ended(ended)
    else:
        count, is_all_woken = _revoke_app(app, reason=reason, override=override_guard)
    if as_json:
        output.print_json({"ended": count})
        return
    click.echo(f"Ended: {count}")
    if count:
        when = "within seconds" if is_all_woken else "as beat has the sweep wake them, 500 a time"
        click.echo(f"The workers tell Mosaic and the apps {when} (mosaic-sessions status).")


def _revoke_app(app: str, *, reason: str, override: bool) -> tuple[int, bool]:
    """Return how many were ended, and whether all who must be told were woken."""
    count, is_all_woken = 0, True
    batches = revoke_app.revoke_app(services(), app, reason=reason, override=override)
    for batch, ended in enumerate(batches, start=1):
        # Of one batch alone, which is as much as a sweep wakes: it wakes the others.
        is_all_woken = batch == 1 and common.wake_what_ended(ended)
        count += ended.count
        click.echo(f"batch {batch}: {ended.count} ended", err=True)
    return count, is_all_woken


def _which(ref: UUID | None, user: str | None, app: str | None) -> ColumnElement[bool]:
    if app is not None:
        common.require_app(app)
    if ref is not None and overview.session_details(services(), ref) is None:
        raise _no_session(ref)
    return overview.live_sessions_of(session=ref, user_id=user, app_id=app)


def _confirm(which: ColumnElement[bool]) -> None:
    with overview.counting("--yes"):
        count = overview.count_live(services(), which)
    if not count:
        return
    how_many = guards.in_words(count, guards.MAX_COUNTED)
    if not common.is_at_a_terminal():
        raise Failure(f"this would end {how_many} live sessions: say --yes if it is meant")
    if not click.confirm(f"End {how_many} live sessions, here and at Mosaic?", err=True):
        raise Failure("nothing was ended")


def _no_session(ref: UUID) -> Failure:
    return Failure(f"there is no session {ref} (mosaic-sessions sessions list --all)")


def _print_details(details: SessionDetails) -> None:
    output.print_facts(_facts(details.session))
    click.echo("\nShared by")
    output.print_table(
        ("app", "first signed in", "last signed in", "access token until"),
        (tuple(asdict(link).values()) for link in details.shares),
    )
    click.echo("Logout at Mosaic")
    output.print_facts(
        {"state": "none is due"}
        if details.logout is None
        else {name.replace("_", " "): value for name, value in asdict(details.logout).items()}
    )
    click.echo("\nNotices to its apps")
    output.print_table(
        ("app", "state", "attempts", "last error", "next attempt", "since", "closed", "notice"),
        (
            (
                notice.app_id,
                notice.state,
                notice.attempts,
                notice.last_error,
                notice.next_attempt_at,
                notice.created_at,
                notice.closed_at,
                notice.notice_id,
            )
            for notice in details.notices
        ),
    )
    click.echo("What happened")
    output.print_table(
        ("at", "event", "app", "detail", "request"),
        (tuple(asdict(entry).values()) for entry in details.trail),
    )


def _facts(session: SessionInfo) -> dict[str, object]:
    facts = {name.replace("_", " "): value for name, value in asdict(session).items()}
    del facts["apps"]  # they have a table of their own
    return facts

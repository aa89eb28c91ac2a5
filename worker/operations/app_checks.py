"""What `doctor` checks of each app: `app_trials`, and how long its sessions live."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from sqlalchemy import Row, select

from models import App
from worker.app_registry import SILENT_BY_USER
from worker.errors import SessionWorkerError
from worker.operations import app_trials, dependencies, lifetime_check
from worker.operations.checks import Check, Hint, Step
from worker.settings.environment import variable_name
from worker.wiring import Services


def checks(services: Services, test_notices: tuple[str, ...]) -> Iterator[tuple[str, Check]]:
    """Yield the checks of each enabled app by name; *test_notices* are sent a notice of no user."""
    try:
        with dependencies.in_operators_words(), services.store.read() as connection:
            query = select(App.__table__).where(App.disabled_at.is_(None)).order_by(App.app_id)
            apps = connection.execute(query).all()
    except SessionWorkerError:
        return  # said of the database
    if not apps:
        yield "apps", _no_apps
    for app in apps:
        yield f"{app.app_id}: key set", partial(app_trials.key_set, services, app)
        yield from _at_mosaic(services, app)
        yield f"{app.app_id}: notices", partial(app_trials.notices, services, app)
        if SILENT_BY_USER in app.capabilities:
            yield f"{app.app_id}: absent users", partial(_absent_users, services)
        if app.app_id in test_notices:
            yield f"{app.app_id}: test notice", partial(app_trials.test_notice, services, app)


def _at_mosaic(services: Services, app: Row[Any]) -> Iterator[tuple[str, Check]]:
    """Give what is asked of Mosaic with what the one before it has shown to work.

    After one that was not good the others would fail as well, and name another cause.
    """
    for name, trial in (
        ("client", app_trials.client),
        ("base URL", app_trials.base_url),
        ("sessions", lifetime_check.check),
    ):
        step = Step(partial(trial, services, app))
        yield f"{app.app_id}: {name}", step  # and go on once it has run
        if not step.is_good:
            return


def _no_apps() -> str:
    raise Hint("there is none yet: mosaic-sessions apps add")


def _absent_users(services: Services) -> str:
    if services.settings.session_absolute_cap_seconds is None:
        raise Hint(
            f"{SILENT_BY_USER} lets it keep sessions of users who are away alive for ever: "
            f"set {variable_name('session_absolute_cap_seconds')}, or deny it"
        )
    return "their sessions end at the absolute cap"

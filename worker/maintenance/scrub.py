"""Forgetting the answers of logins, which hold tokens, once no request may come again for them."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, null, select, update

from models import CallOutcome, LoginCall
from worker.maintenance.batches import Batch, Counts, Work, ends_at, in_turn
from worker.storage.sql import among_first_free
from worker.wiring import Services

_OUTCOME_UNKNOWN: Final = {"outcome": CallOutcome.UNKNOWN.value}


def scrub_answers(services: Services, *, until: float | None = None) -> Counts:
    """Scrub answers that no request gets any more, and close calls whose answer no worker heard.

    Such a call may have happened: a worker was killed between its row and Mosaic's answer.
    """
    until = ends_at(services) if until is None else until
    now = services.now()
    outdated = LoginCall.sealed_answer.is_not(None) & (LoginCall.answer_until <= now)
    open_for_ever = LoginCall.closed_at.is_(None) & (LoginCall.call_until <= now)
    updaters = {
        "answers": _updater(services, outdated, {"sealed_answer": null()}),
        "unheard": _updater(services, open_for_ever, {**_OUTCOME_UNKNOWN, "closed_at": now}),
    }
    return in_turn(services, updaters, until)


def _updater(
    services: Services, which: ColumnElement[bool], values: dict[str, object | datetime]
) -> Work:
    limit = services.settings.maintenance_batch
    rest = select(LoginCall.id).where(which)
    batch = among_first_free(rest, limit, is_sqlite=services.store.is_sqlite)
    statement = update(LoginCall).where(batch, which).values(values).returning(LoginCall.id)

    def update_batch(connection: Connection) -> Batch:
        done = len(connection.execute(statement).all())
        return Batch(done, is_last=done < limit)

    return update_batch

"""What tests of logout propagation share: apps that want to be told, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text

from models import Notice, NoticeMethod
from session_client import LogoutNotice, open_notice, requests
from simulator.server import SimulatorServer
from tests.integration.backchannel.notices_rig import ISSUER, rsa_pem
from tests.stage import Stage
from worker.outbox import mosaic_logouts, notice_delivery

ASK = "session/authenticate"
QUEUE = "forum-notices"


@contextmanager
def signing(
    store_url: str, redis_url: str, mosaic: SimulatorServer, **overrides: str
) -> Iterator[Stage]:
    """A stage that can sign logout tokens for receivers on this machine."""
    settings = {
        "notice_issuer": ISSUER,
        "notice_signing_keys": rsa_pem("first"),
        "notice_private_addresses": "true",
    }
    with Stage(store_url, redis_url, mosaic, **(settings | overrides)) as stage:
        yield stage


def by_queue(stage: Stage, app_id: str, **choices: Any) -> None:
    stage.add_app(
        app_id, notice_method=NoticeMethod.QUEUE, notice_address=f"{app_id}-notices", **choices
    )


def by_post(stage: Stage, app_id: str, url: str) -> None:
    stage.add_app(app_id, notice_method=NoticeMethod.BACKCHANNEL, notice_address=url)


def notices(stage: Stage) -> list[Row[Any]]:
    with stage.services.store.read() as connection:
        return list(connection.execute(select(Notice.__table__).order_by(Notice.id)).all())


def the_notice(stage: Stage) -> Row[Any]:
    (row,) = notices(stage)
    return row


def owed(stage: Stage) -> UUID:
    """Have shop and forum share a session that shop logs out; return forum's notice."""
    ref = stage.registered("ada", "shop")
    stage.silent_auth("ada", "forum")
    stage.log_out(session_ref=str(ref))
    notice_id: UUID = the_notice(stage).id
    return notice_id


class Broker:
    """Takes the messages for the apps' own queues, or refuses them."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, dict[str, Any]]] = []
        self.error: Exception | None = None

    def __call__(self, queue: str, task: str, kwargs: dict[str, Any]) -> datetime:
        if self.error is not None:
            raise self.error
        self.messages.append((queue, task, kwargs))
        return datetime.now(UTC)

    def open_last(self, stage: Stage, app_id: str = "forum") -> LogoutNotice:
        """Open the last message as the app does."""
        envelope = self.messages[-1][2]["envelope"]
        return open_notice(envelope, app_id=app_id, app_keys=[stage.keys[app_id]])


def deliver(stage: Stage, notice_id: UUID, broker: Broker | None = None) -> str | None:
    return notice_delivery.deliver(stage.services, notice_id, broker or Broker())


def confirm(stage: Stage, notice_id: object, app_id: str = "forum") -> Any:
    notice = LogoutNotice(notice_id=str(notice_id), user_id=None, session_ref=None)
    return stage.ask(app_id, requests.ConfirmNotice(notice))


def receipt(stage: Stage, receipt_id: str, app_id: str = "shop") -> Any:
    return stage.ask(app_id, requests.Receipt(receipt_id=receipt_id))


def waits_for_a_lock(stage: Stage) -> bool:
    """Whether somebody waits for a lock; PostgreSQL only."""
    with stage.services.store.read() as connection:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(connection.execute(waiting).scalar_one())


def late_logout_of_shop_alone(stage: Stage) -> None:
    """Mosaic fails on a logout of shop's, since before it has confirmed one of forum's."""
    for user_id, app_id in (("ada", "shop"), ("bob", "forum")):
        session = stage.registered(user_id, app_id)
        stage.log_out(user_id, app_id, session_ref=str(session))
    (forums,) = [row.id for row in stage.logouts() if row.requested_by == "forum"]
    assert mosaic_logouts.end_at_idp(stage.services, forums) == "confirmed"
    stage.mosaic.state.faults.add("session/logout", "status", status=503)
    stage.tell_mosaic()
    stage.pass_time(minutes=16)

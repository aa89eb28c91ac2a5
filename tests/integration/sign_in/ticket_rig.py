"""A hub that signs users in, and apps on other domains that take its tickets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from models import BrowserToken, SessionEvent, Ticket
from session_client import contract, requests
from session_client.contract import Reason, Verdict
from tests.integration.outbox.propagation_rig import by_queue
from tests.stage import Stage

ASK = "session/authenticate"
NOBODYS = "msb1_" + "x" * 43
FORUM_URL = "https://forum.example/transfer"


def open_apps(stage: Stage) -> None:
    by_queue(stage, "hub", silent_by_user=False)
    for app_id in ("forum", "blog"):
        url = f"https://{app_id}.example/transfer"
        by_queue(stage, app_id, silent_by_user=False, transfer_url=url, tickets_from=("hub",))
    by_queue(stage, "shop", silent_by_user=False)


class Visit:
    """A browser that forum has sent to the hub, with a ticket on its way back."""

    def __init__(self, stage: Stage, token: str, for_app: str = "forum") -> None:
        self.stage = stage
        self.verifier = requests.new_verifier()
        self.answer = ask_for_ticket(stage, token, for_app, verifier=self.verifier)
        assert self.answer.verdict is Verdict.OK, self.answer
        self.ticket: str = self.answer.ticket

    def request(self, **fields: Any) -> requests.SilentAuth:
        given: dict[str, Any] = {"ticket": self.ticket, "verifier": self.verifier}
        return requests.SilentAuth(**given | fields)

    def redeem(self, app_id: str = "forum", *, request_id: str | None = None, **fields: Any) -> Any:
        return self.stage.ask(app_id, self.request(**fields), request_id=request_id)


def ask_for_ticket(
    stage: Stage,
    token: str,
    for_app: str = "forum",
    *,
    from_app: str = "hub",
    verifier: str | None = None,
) -> Any:
    challenge = contract.challenge_of(verifier or requests.new_verifier())
    asked = requests.IssueTicket(browser_token=token, for_app=for_app, challenge=challenge)
    return stage.ask(from_app, asked)


def is_refused(answer: Any) -> bool:
    """Whether a ticket was refused as all are, and nothing more was said."""
    assert (answer.tokens, answer.user_id, answer.session_ref) == (None, None, None), answer
    assert (answer.browser_token, answer.detail) == (None, None), answer
    refusal = (Verdict.LOGIN_REQUIRED, Reason.TICKET_REFUSED)
    return (answer.verdict, answer.reason) == refusal


def asked_of_mosaic(stage: Stage) -> int:
    return stage.mosaic.state.calls.count(ASK)


def tickets(stage: Stage) -> list[Row[Any]]:
    with stage.services.store.read() as connection:
        query = select(Ticket.__table__).order_by(Ticket.expires_at)
        return list(connection.execute(query).all())


def tokens_of(stage: Stage, app_id: str) -> list[Row[Any]]:
    with stage.services.store.read() as connection:
        query = select(BrowserToken.__table__).where(BrowserToken.issued_to == app_id)
        return list(connection.execute(query).all())


def noted(stage: Stage) -> list[tuple[str, str | None, str | None]]:
    """What the trail says of tickets: the event, its detail, and the app."""
    query = (
        select(SessionEvent.event, SessionEvent.detail, SessionEvent.app_id)
        .where(SessionEvent.event.startswith("ticket_"))
        .order_by(SessionEvent.id)
    )
    with stage.services.store.read() as connection:
        return [(row.event, row.detail, row.app_id) for row in connection.execute(query)]


def refusals(stage: Stage) -> list[str | None]:
    return [detail for event, detail, _ in noted(stage) if event == "ticket_refused"]

"""A passkey on another device: the browser polls while a phone answers."""

from __future__ import annotations

from simulator.idp.incoming import Answer, Incoming
from simulator.idp.methods.passkeys import find_user_id, options_for, require_client
from simulator.idp.store.cross_device import Ticket


def begin(call: Incoming) -> Answer:
    """Hand a ticket out, which the browser shows as a QR code."""
    fields = call.asked()
    require_client(call, fields["client_id"])
    ticket = Ticket(
        fields["client_id"],
        find_user_id(call, fields.get("username")),
        fields.get("approval_data"),
        call.state.clock.now() + call.state.policy.message_seconds,
    )
    return Answer(200, {"cross_device_ticket_id": call.state.cross_device.issue(ticket)})


def attach(call: Incoming) -> Answer:
    """Note that another device has read the ticket."""
    ticket = _ticket(call, {"pending"})
    ticket.status = "attached"
    return Answer(200, {"status": ticket.status})


def start(call: Incoming) -> Answer:
    """Give the other device its challenge."""
    ticket = _ticket(call, {"attached", "started"})
    ticket.status = "started"
    wanted = {"client_id": ticket.client_id, "approval_data": ticket.approval_data}
    return Answer(200, options_for(call, wanted, ticket.user_id))


def show_status(call: Incoming) -> Answer:
    """Tell the browser that polls how far the other device has come."""
    return Answer(200, {"status": _ticket(call).status})


def abort(call: Incoming) -> Answer:
    """Let no device go on with a ticket."""
    call.client_id()
    _ticket(call).status = "aborted"
    return Answer(204)


def _ticket(call: Incoming, statuses: set[str] | None = None) -> Ticket:
    ticket_id = call.asked()["cross_device_ticket_id"]
    ticket = call.state.cross_device.find(ticket_id, call.state.clock.now())
    if ticket is None:
        raise call.refused(404, "Ticket not found", "cross_device_ticket_not_found")
    if statuses and ticket.status not in statuses:
        raise call.refused(400, f"Ticket is {ticket.status}", "invalid_request")
    return ticket

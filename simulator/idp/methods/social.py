"""Signing in by an account at a social provider, and that provider's page."""

from __future__ import annotations

from html import escape
from secrets import token_urlsafe
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from simulator.idp.errors import refused
from simulator.idp.incoming import Answer, Incoming
from simulator.idp.methods.links import require_redirect_uri
from simulator.idp.methods.sign_in import Proof, session_to_join, sign_in
from simulator.idp.state import MosaicState
from simulator.idp.store.outbox import write_link
from simulator.idp.store.social import PROVIDERS, Visit

AMR = "social"
PAGE = "/_provider/{provider}"


def start(call: Incoming) -> Answer:
    """Say where to send the browser: to the pretend provider's page."""
    provider, client_id, fields = _provider(call), call.client_id(), call.asked()
    require_redirect_uri(call, client_id, fields["redirect_uri"])
    state, now = call.state, call.state.clock.now()
    visit = Visit(
        provider,
        client_id,
        fields["redirect_uri"],
        fields.get("state") or token_urlsafe(16),
        expires_at=now + state.policy.message_seconds,
    )
    page = PAGE.format(provider=provider)
    ticket = urlencode({"ticket": state.social.start(visit)})
    return Answer(200, {"authorization_url": f"{_origin(call.url)}{page}?{ticket}"})


def verify(call: Incoming) -> Answer:
    """Say whose account the browser came back from, by the code it brought."""
    provider, client_id, fields = _provider(call), call.client_id(), call.asked()
    visit = call.state.social.redeem_code(fields["code"])
    if visit is None or (visit.provider, visit.client_id) != (provider, client_id):
        raise call.refused(400, "Invalid code")
    if visit.state != fields["state"] or call.state.clock.now() >= visit.expires_at:
        raise call.refused(400, "Invalid state")
    transaction_id = call.state.social.begin(visit)
    return Answer(200, {"transaction_id": transaction_id, "claims": dict(visit.claims or {})})


def authenticate(call: Incoming) -> Answer:
    """Sign in the user whom the *app* says this account belongs to, whoever that is."""
    provider, client_id, fields = _provider(call), call.client_id(), call.asked()
    joined = session_to_join(call)
    visit = call.state.social.transaction(fields["transaction_id"])
    if visit is None or (visit.provider, visit.client_id) != (provider, client_id):
        raise call.refused(400, "Invalid transaction")
    user = call.state.users.get(fields["user_id"])
    if user is None:
        raise call.refused(404, "User not found")
    answer = sign_in(call, client_id, Proof(user, AMR), joined)
    call.state.social.redeem_transaction(fields["transaction_id"])
    return answer


def routes(state: MosaicState) -> list[Route]:
    """The page on which a person, or a test, says who they are at the provider."""

    async def show(request: Request) -> Response:
        visit = state.social.started(request.query_params.get("ticket", ""))
        if visit is None or visit.provider != request.path_params["provider"]:
            return HTMLResponse("<p>This visit has ended.</p>", 400)
        account = request.query_params.get("account")
        if account is None:
            return HTMLResponse(_choice(state, visit, str(request.url)))
        code = state.social.consent(visit, account)
        if code is None:
            return HTMLResponse("<p>There is no such account.</p>", 404)
        return _send_back(visit, code)

    return [Route(PAGE, show, methods=["GET"])]


def _send_back(visit: Visit, code: str) -> Response:
    if visit.provider == "apple":  # the one that posts, without any SameSite=Lax cookie
        return HTMLResponse(
            f'<form method="post" action="{escape(visit.redirect_uri)}">'
            f'<input type="hidden" name="code" value="{escape(code)}">'
            f'<input type="hidden" name="state" value="{escape(visit.state)}">'
            "<button>Continue</button></form><script>document.forms[0].submit()</script>"
        )
    return RedirectResponse(write_link(visit.redirect_uri, code, visit.state), 302)


def _choice(state: MosaicState, visit: Visit, url: str) -> str:
    links = "".join(
        f'<li><a href="{escape(_with_account(url, subject))}">{escape(subject)}</a></li>'
        for subject in state.social.accounts(visit.provider)
    )
    return f"<h1>{escape(visit.provider)}</h1><p>Who are you?</p><ul>{links}</ul>"


def _with_account(url: str, subject: str) -> str:
    return f"{url}&{urlencode({'account': subject})}"


def _provider(call: Incoming) -> str:
    provider = call.path["provider"]
    if provider not in PROVIDERS:
        raise refused(404, "Not Found")
    return provider


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"

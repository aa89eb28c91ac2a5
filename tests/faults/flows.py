"""What apps, operators and the worker itself do: each flow, made ready, as often as it is told."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import Row, select, update

from models import (
    EndCause,
    IdpSession,
    LoginCall,
    Logout,
    LogoutRequest,
    Notice,
    UserRevocation,
)
from session_client import LogoutNotice, contract, logins, methods, requests
from session_client.contract import Verdict
from session_client.requests import new_request_id, new_verifier
from simulator.idp.endpoints import Endpoint
from tests.integration.logins.login_rig import ALL, reply_to
from tests.integration.outbox.propagation_rig import by_queue
from tests.stage import ENCRYPTION_KEY, Sent, Stage
from worker import wiring
from worker.app import app as celery_app
from worker.logout.revoke import revoke
from worker.maintenance.expire import expire_sessions
from worker.maintenance.purge import purge_history
from worker.maintenance.scrub import scrub_answers
from worker.operations.key_rotation import reseal
from worker.operations.revoke_app import revoke_app
from worker.outbox import app_notices, leases, mosaic_logouts, mosaic_revocations
from worker.sessions import queries
from worker.sign_in.late_id import keep_late_id
from worker.tasks import maintenance
from worker.tasks.logouts import END_AT_IDP, END_ORPHANS, END_USER_AT_IDP
from worker.tasks.notices import DELIVER

PASSWORD = "a user's"
DEVICE = "their laptop"
ASK = "session/authenticate"
_NEXT_KEY = base64.b64encode(b"n" * 32).decode()
RING = f"k1:{ENCRYPTION_KEY},k2:{_NEXT_KEY}"
RING_ROTATED = f"k2:{_NEXT_KEY},k1:{ENCRYPTION_KEY}"
DELIVERIES = {UserRevocation: END_USER_AT_IDP, Logout: END_AT_IDP, Notice: DELIVER}


def open_apps(stage: Stage) -> None:
    """Register a shop, and a forum that takes its tickets and wants to be told of logouts."""
    powers = {"capabilities": ("offline", "logout_user", "revoke_user"), "methods": tuple(ALL)}
    stage.add_app("shop", silent_by_user=False, **powers)
    transfer = {"transfer_url": "https://forum.example/transfer", "tickets_from": ("shop",)}
    by_queue(stage, "forum", silent_by_user=False, **powers, **transfer)


@dataclass
class Asked:
    """A request of an app, which comes again under the same id."""

    stage: Stage
    app_id: str
    request: Any
    request_id: str = field(default_factory=new_request_id)

    def __call__(self) -> None:
        self.stage.run(self._sent())

    def heard(self) -> Any:
        """Return the next answer that the app has got."""
        return self.stage.answer_to(self._sent())

    def _sent(self) -> Sent:
        return self.stage.seal(self.app_id, self.request, request_id=self.request_id)


class World:
    """A user who is signed in at the shop by the worker, and has been at the forum."""

    def __init__(self, stage: Stage, user_id: str) -> None:
        self.stage, self.user_id = stage, user_id
        self.mail = f"{user_id}@example.com"
        stage.mosaic.state.add_user(user_id, password=PASSWORD, email=self.mail)
        answer = self.ask("shop", self.password())
        self.ref, self.token = UUID(answer.session_ref), answer.browser_token
        self.refresh_token = answer.tokens.refresh_token
        (live,) = stage.mosaic.state.live_sessions(user_id)
        self.session_id = live.session_id
        self.is_being_used = False  # by an answer of Mosaic's that the worker is waiting for
        seen = self.ask("forum", requests.SilentAuth(browser_token=self.token))
        assert seen.verdict is Verdict.AUTHENTICATED, seen

    def ask(self, app_id: str, request: Any) -> Any:
        return self.stage.ask(app_id, request)

    def asked(self, request: Any, app_id: str = "shop") -> Asked:
        return Asked(self.stage, app_id, request)

    def password(self, **fields: Any) -> Any:
        proof = methods.Password(self.user_id, PASSWORD)
        return logins.Authenticate(proof=proof, device_id=DEVICE, **fields)

    def code(self, step: methods.SendOtp, approval_data: Any = None, **fields: Any) -> Any:
        """Have a code sent, and return what proves that it came."""
        asked = logins.Start(step=step, approval_data=approval_data, **fields)
        start = self.stage.seal("shop", asked)
        login = reply_to(self.stage, start)["login"]
        code = self.stage.mosaic.state.outbox.latest(self.user_id).code
        return logins.Authenticate(proof=methods.Code(code), login=login, **fields)

    def ticket(self, verifier: str) -> Any:
        challenge = contract.challenge_of(verifier)
        return requests.IssueTicket(browser_token=self.token, for_app="forum", challenge=challenge)

    def registration(self, **fields: Any) -> Any:
        login = self.stage.login(self.user_id, "shop")
        names = {"session_id": login.session_id, "id_token": login.id_token}
        return requests.Register(user_id=self.user_id, **names, **fields)

    def set(self, **values: Any) -> None:
        with self.stage.services.store.write() as connection:
            connection.execute(update(IdpSession).where(IdpSession.id == self.ref).values(values))

    def end_at_mosaic(self) -> None:
        """End the browser's session there, as by its expiry, unless it was used just now."""
        if not self.is_being_used:
            self.stage.mosaic.state.end_session(self.session_id)

    def age(self) -> None:
        """Have what has ended by now, and each logout, be of a year ago: a purge may take it."""
        long_ago = self.stage.now() - timedelta(days=365)
        theirs = IdpSession.user_id == self.user_id
        with self.stage.services.store.write() as connection:
            ended = update(IdpSession).where(theirs, IdpSession.ended_at.is_not(None))
            connection.execute(ended.values(ended_at=long_ago))
            asked = update(LogoutRequest).where(LogoutRequest.user_id == self.user_id)
            connection.execute(asked.values(created_at=long_ago))


Flow = Callable[[World], Callable[[], Any]]


def rows(stage: Stage, kind: Any) -> list[Row[Any]]:
    with stage.services.store.read() as connection:
        return list(connection.execute(select(kind.__table__)).all())


def open_ones(stage: Stage, kind: Any) -> list[UUID]:
    """Return the deliveries, or calls, that are not closed."""
    with stage.services.store.read() as connection:
        return list(connection.execute(select(kind.id).where(kind.closed_at.is_(None))).scalars())


def task(name: str, row: UUID) -> Callable[[], Any]:
    return lambda: celery_app.tasks[name].apply((str(row),), throw=True)


# --- what apps ask for


def send_a_code(world: World) -> Asked:
    return world.asked(logins.Start(step=methods.SendOtp("email", world.mail, "email")))


def log_in_by_code(world: World) -> Asked:
    return world.asked(world.code(methods.SendOtp("email", world.mail, "email")))


def log_in(world: World) -> Asked:
    return world.asked(world.password())


def log_in_anew(world: World) -> Asked:
    return world.asked(world.password(replaces=world.token))


def step_up(world: World) -> Asked:
    return world.asked(world.code(methods.SendOtp("email"), step_up=world.token))


def approve(world: World) -> Asked:
    code = world.code(methods.SendOtp("email"), {"payee": "bob"}, step_up=world.token)
    return world.asked(code)


def refresh(world: World) -> Asked:
    return world.asked(requests.Refresh(refresh_token=world.refresh_token))


def visit(world: World) -> Asked:
    return world.asked(requests.SilentAuth(browser_token=world.token), "forum")


def visit_and_be_renamed(world: World) -> Asked:
    """Mosaic gives the session another id with its answer."""
    faults = world.stage.mosaic.state.faults
    faults.add(ASK, "rotate_session_id", client_id="client-forum", times=1)
    return visit(world)


def ask_for_a_ticket(world: World) -> Asked:
    return world.asked(world.ticket(new_verifier()))


def redeem_a_ticket(world: World) -> Asked:
    verifier = new_verifier()
    ticket = world.ask("shop", world.ticket(verifier)).ticket
    return world.asked(requests.SilentAuth(ticket=ticket, verifier=verifier), "forum")


def register_anew(world: World) -> Asked:
    return world.asked(world.registration(replaces=world.token))


def log_out(world: World) -> Asked:
    return world.asked(requests.Logout(browser_token=world.token))


def log_out_before_registering(world: World) -> Asked:
    login = world.stage.login(world.user_id, "shop")
    return world.asked(requests.Logout(user_id=world.user_id, session_id=login.session_id))


def log_out_everywhere(world: World) -> Asked:
    return world.asked(requests.Logout(user_id=world.user_id, everywhere=True))


def log_out_the_device(world: World) -> Asked:
    return world.asked(requests.Logout(user_id=world.user_id, device_id=DEVICE))


def log_out_what_expired(world: World) -> Asked:
    """Its app has the id, and Mosaic has let it live on."""
    past = world.stage.now() - timedelta(days=365)
    world.set(ended_at=past, end_cause=EndCause.EXPIRED.value, sealed_session_id=None)
    return world.asked(requests.Logout(user_id=world.user_id, session_id=world.session_id))


def revoke_the_user(world: World) -> Asked:
    return world.asked(requests.RevokeUser(world.user_id))


def confirm_a_notice(world: World) -> Asked:
    log_out(world)()
    (notice,) = open_ones(world.stage, Notice)
    confirmed = LogoutNotice(notice_id=str(notice), user_id=None, session_ref=None)
    return world.asked(requests.ConfirmNotice(confirmed), "forum")


# --- what the worker does by itself, and operators


def tell_mosaic(world: World) -> Callable[[], Any]:
    log_out(world)()
    (logout,) = open_ones(world.stage, Logout)
    return task(END_AT_IDP, logout)


def tell_mosaic_of_a_user(world: World) -> Callable[[], Any]:
    revoke_the_user(world)()
    (revocation,) = open_ones(world.stage, UserRevocation)
    return task(END_USER_AT_IDP, revocation)


def tell_an_app(world: World) -> Callable[[], Any]:
    log_out(world)()
    (notice,) = open_ones(world.stage, Notice)
    return task(DELIVER, notice)


def keep_a_late_id(world: World) -> Callable[[], Any]:
    """Mosaic answers with another id, by which it alone knows the session, after the logout."""
    stage, sessions = world.stage, world.stage.mosaic.state.sessions
    with stage.services.store.read() as connection:
        asked_about = queries.by_id(connection, world.ref)
    app = stage.services.apps.find("forum")
    assert asked_about is not None
    assert app is not None
    log_out(world)()
    at_mosaic = sessions.forget_id(world.session_id)
    sessions.give_new_id(at_mosaic)
    return lambda: keep_late_id(stage.services, app, asked_about, at_mosaic.session_id)


def end_orphans(world: World) -> Callable[[], Any]:
    faults = world.stage.mosaic.state.faults
    faults.add(Endpoint.PASSWORD_AUTHENTICATE, "drop_answer", times=1)
    log_in(world)()
    world.stage.pass_time(seconds=60)
    log_in(world)()
    return task(END_ORPHANS, newest_login(world.stage))


def newest_login(stage: Stage) -> UUID:
    answered = [row for row in rows(stage, LoginCall) if row.outcome == "answered"]
    newest: UUID = max(answered, key=lambda row: row.sent_at).id
    return newest


def expire(world: World) -> Callable[[], Any]:
    past = world.stage.now() - timedelta(hours=1)
    world.set(expires_at=past, check_expiry_at=past)
    world.end_at_mosaic()
    return lambda: expire_sessions(world.stage.services, override_guard=True)


def purge(world: World) -> Callable[[], Any]:
    past = world.stage.now() - timedelta(days=365)
    world.set(ended_at=past, end_cause=EndCause.EXPIRED.value, sealed_session_id=None)
    world.end_at_mosaic()
    return lambda: purge_history(world.stage.services)


def scrub(world: World) -> Callable[[], Any]:
    world.stage.pass_time(minutes=10)
    return lambda: scrub_answers(world.stage.services)


def sweep(world: World) -> Callable[[], Any]:
    log_out(world)()
    world.stage.pass_time(minutes=5)
    return maintenance.sweep


def revoke_an_app(world: World) -> Callable[[], Any]:
    def act() -> None:
        list(revoke_app(world.stage.services, "shop", reason="an incident", override=True))

    return act


def revoke_by_hand(world: World) -> Callable[[], Any]:
    theirs, user_id = IdpSession.user_id == world.user_id, world.user_id
    how: Any = {"reason": "an incident", "override": True, "all_of_user": user_id}
    return lambda: revoke(world.stage.services, theirs, **how)


def replay(world: World) -> Callable[[], Any]:
    """What was given up a year ago, and might be purged, is opened again."""
    revoke_the_user(world)()
    stage = world.stage
    with stage.services.store.write() as connection:
        kinds: tuple[leases.DeliveryKind, ...] = (UserRevocation, Logout, Notice)
        for kind in kinds:
            dead = update(kind).where(kind.closed_at.is_(None))
            connection.execute(dead.values(closed_at=stage.now(), outcome=leases.DEAD))
    world.age()

    def act() -> int:
        services = stage.services
        of_users = mosaic_revocations.replay_dead_lettered(services)
        of_sessions = mosaic_logouts.replay_dead_lettered(services)
        return of_users + of_sessions + app_notices.replay_failed(services)

    return act


def rotate_keys(world: World) -> Callable[[], Any]:
    changed = {"encryption_keys": SecretStr(RING_ROTATED)}
    settings = world.stage.settings.model_copy(update=changed)

    def act() -> None:
        with closing(wiring.build(settings, now=world.stage.now)) as there:
            list(reseal(there))

    return act


REQUESTS: list[Flow] = [
    send_a_code,
    log_in_by_code,
    log_in_anew,
    step_up,
    approve,
    refresh,
    visit,
    visit_and_be_renamed,
    ask_for_a_ticket,
    redeem_a_ticket,
    register_anew,
    log_out,
    log_out_before_registering,
    log_out_everywhere,
    log_out_the_device,
    log_out_what_expired,
    revoke_the_user,
    confirm_a_notice,
]
JOBS: list[Flow] = [
    tell_mosaic,
    tell_mosaic_of_a_user,
    tell_an_app,
    keep_a_late_id,
    end_orphans,
    expire,
    purge,
    scrub,
    sweep,
    revoke_by_hand,
    revoke_an_app,
    replay,
    rotate_keys,
]
# Where a proof goes to Mosaic.
PROOFS = {
    log_in_by_code: Endpoint.OTP_AUTHENTICATE,
    log_in_anew: Endpoint.PASSWORD_AUTHENTICATE,
    send_a_code: Endpoint.OTP_SEND,
    step_up: Endpoint.OTP_AUTHENTICATE,
    approve: Endpoint.OTP_AUTHENTICATE,
    refresh: Endpoint.TOKEN_REFRESH,
}

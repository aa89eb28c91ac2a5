"""One proof on its way to Mosaic, with all that is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from models import TokenOrigin
from session_client.login_steps import Proof
from worker.logins.limits import Bucket, Guesser
from worker.logins.login_handle import LoginHandle, way_of
from worker.logins.step_up_session import Raised
from worker.mosaic import CALLS, Identity, LoginFacts, Tokens
from worker.requests.login_commands import AuthenticateCommand
from worker.requests.request import OpenedRequest
from worker.sessions import audit, mosaic_ids
from worker.sign_in.active_login import ActiveLogin
from worker.wiring import Services

AuthenticateRequest = OpenedRequest[AuthenticateCommand]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One proof on its way."""

    services: Services
    request: AuthenticateRequest
    proof: Proof
    handle: LoginHandle | None
    raised: Raised | None
    facts: LoginFacts
    guesser: Guesser
    buckets: tuple[Bucket, ...]
    begun_at: datetime
    seconds: float

    @property
    def method(self) -> str:
        """The method, as the operator grants it."""
        return self.proof.method.value if self.handle is None else self.handle.method

    @property
    def way(self) -> str:
        """What a browser is known by once the proof is accepted."""
        return way_of(self.proof) if self.handle is None else self.handle.way

    @property
    def is_named_by_mosaic(self) -> bool:
        """Whether an accepted proof is that of the user named, and not of any."""
        return self.expected_user is not None or CALLS[type(self.proof)].proves_name

    @property
    def session_id(self) -> str | None:
        """Mosaic's id of the session to add a factor to."""
        if self.raised is None:
            return None
        return mosaic_ids.open_id_of(self.services.keyring, self.raised.session)

    @property
    def expected_user(self) -> str | None:
        """Whose tokens it must bring, where that is known before."""
        is_known = self.facts.identifier_type == "user_id"
        return self.facts.identifier if is_known else None

    def active(self, tokens: Tokens, identity: Identity) -> ActiveLogin:
        """Return what there is to store of the answer that brought *tokens*."""
        raised, command = self.raised, self.request.command
        return ActiveLogin(
            session_id=tokens.session_id,
            identity=identity,
            device_id=command.device_id,
            origin=TokenOrigin.LOGIN if raised is None else TokenOrigin.FACTOR,
            name=audit.SIGNED_IN,
            detail=self.method,
            replaces=command.replaces,
            into=None if raised is None else raised.session.id,
            asked_about=None if raised is None else raised.session.session_hash,
            gives_browser_token=raised is None or raised.is_newest,
            token_expires_at=self.services.now() + timedelta(seconds=tokens.expires_in),
        )

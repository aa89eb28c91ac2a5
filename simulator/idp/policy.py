"""What a tenant may decide, and what Mosaic's pages leave open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

DAY_SECONDS = 24 * 60 * 60


@dataclass
class Policy:
    """Every choice that is not written in stone; change one at any time."""

    # A constant, never the address we listen on: a worker that derives one from
    # the other must fail here and not at its first real tenant.
    issuer: str = "https://userid.security"
    tenant_id: str = "simulated-tenant"
    signing_algorithm: Literal["RS256", "PS256"] = "RS256"
    # What the JWKS says of its keys: the algorithm that signs, always one, or nothing.
    published_algorithm: Literal["signing", "RS256", "PS256", "none"] = "signing"

    session_seconds: float = 14 * DAY_SECONDS
    client_token_seconds: int = 3600
    user_token_seconds: int = 3600
    message_seconds: float = 600  # how long a passcode, a link or a challenge can be used

    # Wrong passwords, passcodes and authenticator codes, one after the other.
    wrong_proofs_allowed: int = 5
    locked_seconds: float = 15 * 60

    # What a browser may sign with its passkeys.
    passkey_domain: str = "apps.example.com"
    passkey_origins: tuple[str, ...] | list[str] = ("https://apps.example.com",)

    # Undocumented at Mosaic; the defaults are what the protocol sheet expects.
    dead_logout_status: Literal[204, 400, 404] = 400
    wrong_proof_status: Literal[400, 401] = 400  # passwords, authenticator apps, signatures
    # The body of the 403 for who is locked out of these; None: what passcodes answer.
    locked_answer: Mapping[str, object] | None = None
    # How a wrong client id or secret is refused: 400 with a list of messages, or by RFC 6749.
    wrong_client_answer: Literal["messages", "oauth"] = "messages"
    only_creator_may_log_out: bool = False
    silent_renews_auth_time: bool = False
    factor_renews_auth_time: bool = True
    issues_refresh_tokens: bool = True
    rotates_refresh_tokens: bool = True  # else one serves again and again
    session_times: Literal["iso", "seconds", "milliseconds"] = "iso"

    def change(self, **choices: Any) -> None:
        """Set the named choices; a name that does not exist is refused with ValueError."""
        unknown = choices.keys() - {field.name for field in fields(self)}
        if unknown:
            raise ValueError(f"no such policy: {', '.join(sorted(unknown))}")
        for name, value in choices.items():
            setattr(self, name, value)

"""What an app's own session remembers of who is signed in: a dict of short values, and no token."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

KEY: Final = "_mosaic"  # under which the frameworks' sessions keep it
_DIGEST_CHARACTERS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """Who is signed in, for a view. ``amr`` are the factors, ``authenticated_at`` is in seconds."""

    user_id: str
    session_ref: str
    amr: tuple[str, ...]
    authenticated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What a view asks of a session beside the app's policy. ``max_age`` is in seconds."""

    amr: tuple[str, ...] = ()
    amr_any_of: tuple[str, ...] = ()
    max_age: int | None = None

    def demands(self) -> dict[str, Any]:
        """Return it as arguments of a silent authentication."""
        return {"amr_all_of": self.amr, "amr_any_of": self.amr_any_of, "max_age": self.max_age}

    def are_met_by(self, local: Local, now: float) -> bool:
        """Whether *local* is known to be as strong as that."""
        held = set(local.amr)
        return (
            held.issuperset(self.amr)
            and (not self.amr_any_of or not held.isdisjoint(self.amr_any_of))
            and (self.max_age is None or 0 <= now - local.authenticated_at <= self.max_age)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """The local session. Times are in seconds of this app's clock.

    ``browser`` is a part of the hash of the browser's token: it tells whether the browser still
    holds that token, and reveals no token. ``renew_at`` is when half of the session's time is
    over. One that ``is_over`` signs no user in, and still says whose things lie in the session.
    """

    user_id: str
    session_ref: str
    amr: tuple[str, ...]
    authenticated_at: float
    checked_at: float
    renew_at: float
    browser: str
    is_over: bool = False

    @property
    def user(self) -> SignedIn:
        """Return what a view sees of it."""
        return SignedIn(
            user_id=self.user_id,
            session_ref=self.session_ref,
            amr=self.amr,
            authenticated_at=self.authenticated_at,
        )

    def is_signed_in_since(self, before: Local | None) -> bool:
        """Whether it began, or was proved anew, since the framework's session held *before*.

        That one needs another id then: an attacker who has planted it would read what is put there.
        """
        if self.is_over:
            return False
        return before is None or before.is_over or before.browser != self.browser

    def over(self) -> Local:
        """Return what is left when it has ended: whose it was."""
        return replace(self, is_over=True)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        if self.is_over:
            return {"u": self.user_id, "over": True}
        return {
            "u": self.user_id,
            "r": self.session_ref,
            "a": list(self.amr),
            "s": int(self.authenticated_at),
            "c": round(self.checked_at, 3),
            "n": round(self.renew_at),
            "b": self.browser,
        }


def from_dict(data: object) -> Local | None:
    """Return what `Local.to_dict` wrote; None for anything else, such as an older release's."""
    if not isinstance(data, Mapping):
        return None
    try:
        if data.get("over") is True:
            return _over(str(data["u"]))
        return Local(
            user_id=str(data["u"]),
            session_ref=str(data["r"]),
            amr=_texts(data["a"]),
            authenticated_at=float(data["s"]),
            checked_at=float(data["c"]),
            renew_at=float(data["n"]),
            browser=str(data["b"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def digest_of(browser_token: str | None) -> str:
    """Return what is kept of a browser token; of none, nothing."""
    if browser_token is None:
        return ""
    return hashlib.sha256(browser_token.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def _over(user_id: str) -> Local:
    return Local(
        user_id=user_id,
        session_ref="",
        amr=(),
        authenticated_at=0.0,
        checked_at=0.0,
        renew_at=0.0,
        browser="",
        is_over=True,
    )


def _texts(values: Collection[object]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)

"""What the first step of a login gives: the handle to go on with, and what to show or pass on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A login has begun. ``login`` is its handle: keep it for this browser alone.

    ``expires_in`` counts the seconds for which the handle is good.
    """

    login: str = field(repr=False)
    expires_in: int

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Self:
        """Read the data of an answer. Fields of a newer worker are left out."""
        return cls(**{known.name: data[known.name] for known in dataclasses.fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSent(Begun):
    """A code is on its way, if the user is known: it says so of everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeIssued(Begun):
    """``code`` is for the user alone, whom this app reaches by a way of its own."""

    code: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSent(Begun):
    """A link is on its way, if the user is known. ``state`` comes back with it."""

    state: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkIssued(Begun):
    """``code`` and ``state`` belong into the link, which is for the user alone."""

    state: str = field(repr=False)
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SocialBegun(Begun):
    """Send the browser to ``authorization_url``; it comes back with ``state``."""

    state: str = field(repr=False)
    authorization_url: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SocialVerified(Begun):
    """What the provider says of the user: ``claims``, of which its subject is the one to go by."""

    claims: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TotpTransactionBegun(Begun):
    """Show ``challenge``: typed into the authenticator app, it gives the code that approves."""

    challenge: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebauthnBegun(Begun):
    """What the browser's authenticator is to sign: hand ``options`` to the page."""

    options: dict[str, Any] = field(repr=False)

"""How an app wants its requests decided: addresses of its pages, times, cookie, marks, spool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypedDict

from session_client.browser_cookie import BrowserCookie
from session_client.errors import ConfigurationError
from session_client.web.incoming import safe_next
from session_client.web.marks import Marks, NoMarks

# How long a mark stands beyond the time for which a local session may go unchecked.
_MARGIN_SECONDS = 60.0
_OF_THIS_HOST: Final = BrowserCookie()


class Spool(Protocol):
    """Keeps a logout that no worker acknowledged, and delivers it: `session_client.LogoutSpool`."""

    def logout(self, **request: Any) -> object:
        """Write the logout down: what `SessionClient.logout` takes, with its request id.

        *request* also has ``within``: raise where it takes more than so many seconds.
        """
        ...


class Settings(TypedDict, total=False):
    """The arguments of `Options`, as the frameworks take them."""

    login: str
    step_up: str
    home: str
    entry: str | None
    recheck: float
    grace: float
    cookie_domain: str | None
    cookie: BrowserCookie
    trusted_origins: Sequence[str]
    marks: Marks
    notices: str | None
    spool: Spool | None
    hub: str | None
    transfer: str
    pass_on: str | None


@dataclass(slots=True, kw_only=True)
class Options:
    """The same for every framework.

    Args:
        login: the page that signs in.
        step_up: the page that adds a factor.
        home: where a logout leads.
        entry: a page that signs in silently, or shows the login, and leads back; for single-page
            apps, which go there on a 401.
        recheck: after so many seconds the worker is asked whether the session still lives.
        grace: for so many seconds more a user stays in while the worker does not answer.
        cookie_domain: what all apps that share the browser's cookie are below; None for this host
            alone, ``localhost`` for development without TLS.
        cookie: in its place, one that the app has made, such as with ``former_domains``.
        trusted_origins: other origins whose pages may send forms here, such as
            ``https://www.example.com``.
        marks: where endings are marked.
        notices: the address at which the worker tells of endings; None for none.
        spool: takes logouts that the worker has not acknowledged within a second.
        hub: where the app is whose login serves this one too, with this app's name at the worker:
            ``https://hub.example/pass?for_app=forum``. The page *login* then leads there.
        transfer: the address to which the hub sends browsers back; the operator registers it.
        pass_on: at a hub, the address to which other apps send browsers, such as ``/pass``.
    """

    login: str = "/login"
    step_up: str = "/step-up"
    home: str = "/"
    entry: str | None = None
    recheck: float = 300.0
    grace: float = 900.0
    cookie_domain: str | None = None
    cookie: BrowserCookie = _OF_THIS_HOST
    trusted_origins: Sequence[str] = ()
    marks: Marks = field(default_factory=NoMarks)
    notices: str | None = None
    spool: Spool | None = None
    hub: str | None = None
    transfer: str = "/transfer"
    pass_on: str | None = None
    # Until when (this app's clock) the app asks for no session, since the worker is away: each page
    # would wait for it.
    away_until: float = 0.0

    def __post_init__(self) -> None:
        if self.cookie_domain is not None:
            if self.cookie is not _OF_THIS_HOST:
                # One of the two would be dropped, and with it the former domains.
                raise ConfigurationError(
                    "cookie_domain: leave it out beside cookie, and say the domain there, such as "
                    "BrowserCookie(domain=…, former_domains=[…])"
                )
            is_local = self.cookie_domain == "localhost"
            self.cookie = (
                BrowserCookie(for_development=True)
                if is_local
                else BrowserCookie(domain=self.cookie_domain)
            )
        for name in ("login", "step_up", "home", "entry", "notices", "transfer", "pass_on"):
            page = getattr(self, name)
            if page is not None and safe_next(page) != page:
                raise ConfigurationError(f"{name}: a path of this app, such as /{name}")
        if isinstance(self.trusted_origins, str):
            raise ConfigurationError("trusted_origins: a sequence of origins")
        if min(self.recheck, self.grace) < 0:
            raise ConfigurationError("recheck, grace: seconds, 0 at least")

    @property
    def is_secure(self) -> bool:
        """Whether cookies are for TLS alone: everywhere but in development."""
        return self.cookie.name.startswith("__")

    @property
    def marks_last(self) -> float:
        """For how many seconds a mark is needed: no local session goes unchecked for longer."""
        return self.recheck + self.grace + _MARGIN_SECONDS

"""What a notice address must look like, before anything is resolved or sent."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from worker.backchannel.networks import why_refused
from worker.errors import NoticeRefused
from worker.settings.environment import variable_name

# Whatever else browsers and libraries tolerate in a URL, they read differently from each other:
# what was checked must be what is called.
_PLAIN: Final = re.compile(r"[!-~]+")
_STRANGE: Final = re.compile(r"[\\#]")
_NAME: Final = re.compile(r"(?=.{1,253}$)([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_DEFAULT_SCHEMES: Final = frozenset({"https"})
_PRIVATE_SCHEMES: Final = frozenset({"https", "http"})


@dataclass(frozen=True, slots=True)
class Target:
    """A notice address that was checked, and its host: a name, or the one address it denotes."""

    url: str = field(repr=False)  # its query may be a secret
    host: str
    literal: str | None = None


def check_address(url: str, *, allow_private: bool) -> None:
    """Return if *url* may be registered. Raises `NoticeRefused`, which says why not.

    No name is resolved: its answer of today proves nothing for later, so every delivery checks
    its own.
    """
    read_address(url, allow_private=allow_private)


def read_address(url: str, *, allow_private: bool) -> Target:
    """Return the target that *url* names. Raises `NoticeRefused` as `check_address` does."""
    parts = _split(url)
    if parts is None:
        raise NoticeRefused("notice address: not a plain absolute URL without a fragment")
    if parts.scheme not in (_PRIVATE_SCHEMES if allow_private else _DEFAULT_SCHEMES):
        raise _refused("only https is allowed", is_private=parts.scheme in _PRIVATE_SCHEMES)
    if "@" in parts.netloc:
        raise NoticeRefused("notice address: no user and password are allowed in it")
    host = parts.hostname or ""
    literal = _literal(host)
    if literal is None and not _NAME.fullmatch(host):
        raise NoticeRefused("notice address: its host is neither a name nor an IP address")
    if literal is not None:
        check_resolved(literal, allow_private=allow_private)
    elif not allow_private and host.rstrip(".").rpartition(".")[2] == "localhost":
        raise _refused("its host is this machine", is_private=True)  # RFC 6761 section 6.3
    return Target(url, host, literal)


def check_resolved(address: str, *, allow_private: bool) -> None:
    """Return if *address* is one we may connect to. Raises `NoticeRefused`."""
    wrong = why_refused(address, allow_private=allow_private)
    if wrong is not None:
        is_private = not allow_private and why_refused(address, allow_private=True) is None
        raise _refused(f"its host is {wrong}", is_private=is_private)


def _refused(why: str, *, is_private: bool) -> NoticeRefused:
    """Return the refusal, with the setting that would allow what is *private*."""
    setting = variable_name("notice_private_addresses")
    hint = f" (see {setting}, for laptops and closed networks)" if is_private else ""
    return NoticeRefused(f"notice address: {why}{hint}")


def _split(url: str) -> SplitResult | None:
    # Returns None where it could raise: the errors below quote the URL.
    if not _PLAIN.fullmatch(url) or _STRANGE.search(url):
        return None
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if is_whole else None


def _literal(host: str) -> str | None:
    """Return the IP address *host* denotes, in its usual form; None for a name.

    ``127.1``, ``0x7f000001`` and ``2130706433`` are addresses as well: the system's resolver
    reads them so, and would connect to this machine.
    """
    try:
        if ":" in host:
            # A zone ("%eth0") would name one of our own interfaces.
            return None if "%" in host else str(IPv6Address(host))
        return str(IPv4Address(socket.inet_aton(host)))
    except (OSError, ValueError):
        return None

"""Which IP addresses a notice may be sent to, as one table.

An app chooses the address we call, and we call it from inside: whatever is not plainly a public
server is refused. Sources: IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890
and its successors), RFC 6052 for the forms that carry an IPv4 address.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

Address = IPv4Address | IPv6Address


class Rule(Enum):
    """What follows from lying in a network."""

    ALLOWED = auto()
    IF_PRIVATE_ALLOWED = auto()
    NEVER = auto()
    AS_IPV4 = auto()  # as its last four bytes, which are where the packets go


@dataclass(frozen=True, slots=True)
class Row:
    """Networks that are treated alike, and what they are."""

    rule: Rule
    words: str
    networks: tuple[IPv4Network | IPv6Network, ...]


def _row(rule: Rule, words: str, *networks: str) -> Row:
    return Row(rule, words, tuple(ip_network(network) for network in networks))


# The first row that fits counts; the last one fits everything.
TABLE: Final = (
    # They hand out the machine's own credentials, and a few have addresses that look harmless.
    _row(
        Rule.NEVER,
        "a cloud metadata service",
        "169.254.169.254",  # most clouds
        "169.254.170.2",  # AWS containers
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS pods
        "fd20:ce::254",  # Google
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure, in a public network
    ),
    _row(Rule.AS_IPV4, "an embedded IPv4 address", "::ffff:0:0/96", "64:ff9b::/96"),
    _row(Rule.IF_PRIVATE_ALLOWED, "a loopback address", "127.0.0.0/8", "::1"),
    _row(
        Rule.IF_PRIVATE_ALLOWED,
        "a private address",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # carrier-grade NAT, and clouds' inner networks
        "fc00::/7",
    ),
    _row(Rule.NEVER, "a link-local address", "169.254.0.0/16", "fe80::/10"),
    _row(Rule.NEVER, "an unspecified address", "0.0.0.0/8", "::"),
    _row(Rule.NEVER, "a multicast address", "224.0.0.0/4", "ff00::/8"),
    _row(
        Rule.NEVER,
        "a reserved address",
        "192.0.0.0/24",  # protocols
        "192.0.2.0/24",  # documentation, also the next two
        "198.51.100.0/24",
        "203.0.113.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",  # benchmarks
        "240.0.0.0/4",  # future use, and the broadcast address
        "2001::/23",  # protocols, among them Teredo tunnels to an IPv4 address
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
        "2002::/16",  # 6to4 tunnels to an IPv4 address
    ),
    _row(Rule.ALLOWED, "a public address", "0.0.0.0/0", "2000::/3"),
    # The rest of IPv6: unassigned, out of use, or translated (64:ff9b:1::/48).
    _row(Rule.NEVER, "a reserved address", "::/0"),
)


def why_refused(text: str, *, allow_private: bool) -> str | None:
    """Return what is wrong with the address *text*, in words that follow "is"; None if nothing.

    Raises ValueError when it is not an IP address.
    """
    row = _row_of(carried(ip_address(text)))
    if row.rule is Rule.ALLOWED or (row.rule is Rule.IF_PRIVATE_ALLOWED and allow_private):
        return None
    return row.words


def carried(address: Address) -> Address:
    """Return the IPv4 address that *address* carries, or *address* itself."""
    is_carrier = _row_of(address).rule is Rule.AS_IPV4
    return IPv4Address(address.packed[-4:]) if is_carrier else address


def _row_of(address: Address) -> Row:
    return next(row for row in TABLE if any(address in network for network in row.networks))

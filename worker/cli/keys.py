"""`mosaic-sessions keys`: the keys that protect the store, and those that sign notices."""

from __future__ import annotations

import base64
import secrets
import sys
from collections import Counter

import click

from worker.cli import output
from worker.cli.common import FAILED, keyed_services, services
from worker.errors import ConfigurationError
from worker.operations import key_rotation
from worker.operations.key_rotation import Unreadable
from worker.settings import validators
from worker.settings.environment import variable_name
from worker.settings.validators import parse_key_ring


@click.group()
def keys() -> None:
    """Make the keys that seal what is stored, change them, and show those that sign notices."""


@keys.command("generate")
@click.option(
    "--rotate", is_flag=True, help="Only a pair to add to the ring, as kid:base64. See `rotate`."
)
@output.as_json_option
def generate(*, rotate: bool, as_json: bool) -> None:
    """Print fresh keys as settings to paste. Reads no settings and stores nothing.

    They are for a new installation. To change the encryption key of one that runs, take a pair from
    --rotate and follow the steps of `keys rotate --help`. The lookup key stays as it is for ever:
    with another one no stored session is found.
    """
    pair = f"k{secrets.token_hex(3)}:{_random_key()}"
    made = {"pair": pair}
    if not rotate:
        made = {variable_name("encryption_keys"): pair, variable_name("lookup_key"): _random_key()}
    if as_json:
        output.print_json(made)
        return
    for name, value in made.items():
        click.echo(value if rotate else f"{name}={value}")


@keys.command("rotate")
@output.as_json_option
def rotate(*, as_json: bool) -> None:
    """Seal everything under the first key of the ring. Safe to stop, to repeat, and beside workers.

    It is the third of four steps (docs/operations.md, Keys):

    \b
    1. put a new pair (`keys generate --rotate`) LAST everywhere, and restart:
       a process that has not been restarted could not open what it seals
    2. put it first everywhere, and restart
    3. run this, until it has nothing left to seal
    4. remove the old pair everywhere, and restart
    """  # noqa: D301 - click wants the character itself
    found = keyed_services()
    ring = list(parse_key_ring(found.settings.encryption_keys.get_secret_value()))
    totals: Counter[str] = Counter()
    unreadable = Unreadable()
    for batch, (what, changed) in enumerate(key_rotation.reseal(found, unreadable), start=1):
        totals[what] += changed
        click.echo(f"batch {batch}: {what}, {changed} sealed anew", err=True)
    what_next = _what_next(ring, totals.total(), unreadable.count)
    if as_json:
        output.print_json(
            {
                "sealed_anew": totals,
                "unreadable": unreadable.count,
                "unreadable_values": unreadable.first,
                "next": what_next,
            }
        )
    else:
        output.print_facts({what: f"{count} sealed anew" for what, count in totals.items()})
        _print_unreadable(unreadable)
        click.echo(what_next)
    if unreadable.count:
        sys.exit(FAILED)


def _print_unreadable(unreadable: Unreadable) -> None:
    for value in unreadable.first:
        click.echo()
        output.print_facts(
            {
                "not opened": f"{value.what}: {value.whose}",
                "why": value.why,
                "what to do": value.what_to_do,
            }
        )
    if unreadable.count:
        click.echo()


def _what_next(ring: list[str], changed: int, unreadable: int) -> str:
    sealing, *old = ring
    if unreadable:
        return (
            f"{unreadable} values do not open, and were left as they are; all others are under "
            f"{sealing}. Where a key is said to be missing, put it back. Do what is said of each, "
            f"and run it once more: until it finds none, no key may be removed."
        )
    if not old:
        return f"Everything is under {sealing}, the only key of the ring."
    if changed:
        return (
            f"All of this is under {sealing} now. Run it once more: when nothing is left to seal "
            f"anew, {', '.join(old)} may be removed."
        )
    return (
        f"Everything is under {sealing}. If every worker seals with it already, "
        f"{', '.join(old)} may be removed from {variable_name('encryption_keys')}."
    )


@keys.command("jwks")
@output.as_json_option
def jwks(*, as_json: bool) -> None:
    """Print the public keys with which apps verify logout tokens, as a JWKS."""
    del as_json  # it is in any case
    found = services().notices.public_keys()
    if not found["keys"]:
        raise ConfigurationError(
            f"there are no signing keys: set {variable_name('notice_issuer')} and "
            f"{variable_name('notice_signing_keys')}"
        )
    output.print_json(found)


def _random_key() -> str:
    return base64.b64encode(secrets.token_bytes(validators.KEY_BYTES)).decode()

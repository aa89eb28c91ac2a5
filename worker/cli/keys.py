"""`mosaic-sessions keys`: the keys that protect the store, and those that sign notices."""

from __future__ import annotations

import base64
import secrets
from collections import Counter

import click

from worker import setting_values
from worker.cli import output
from worker.cli.door import sealing_services, services
from worker.errors import ConfigurationError
from worker.lifecycle import resealing
from worker.setting_values import parse_key_ring
from worker.setting_variables import variable_name


@click.group()
def keys() -> None:
    """Make the keys that seal what is stored, change them, and show those that sign notices."""


@keys.command("generate")
def generate() -> None:
    """Print fresh keys as settings to paste. Reads no settings and stores nothing.

    To rotate, put a new pair in front of the old ones: the first seals, all of them open. The
    lookup key stays as it is for ever: with another one no stored session is found.
    """
    kid = f"k{secrets.token_hex(3)}"
    click.echo(f"{variable_name('encryption_keys')}={kid}:{_random_key()}")
    click.echo(f"{variable_name('lookup_key')}={_random_key()}")


@keys.command("rotate")
def rotate() -> None:
    """Seal everything under the first key of the ring. Safe to stop, to repeat, and beside workers.

    Run it when every worker has been restarted with the new key first.
    """
    found = sealing_services()
    ring = list(parse_key_ring(found.settings.encryption_keys.get_secret_value()))
    totals: Counter[str] = Counter()
    for batch, (what, changed) in enumerate(resealing.reseal(found), start=1):
        totals[what] += changed
        click.echo(f"batch {batch}: {what}, {changed} sealed anew", err=True)
    output.print_facts({what: f"{count} sealed anew" for what, count in totals.items()})
    click.echo(_what_next(ring, totals.total()))


def _what_next(ring: list[str], changed: int) -> str:
    sealing, *old = ring
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
def jwks() -> None:
    """Print the public keys with which apps verify logout tokens, as a JWKS."""
    found = services().notices.public_keys()
    if not found["keys"]:
        raise ConfigurationError(
            f"there are no signing keys: set {variable_name('notice_issuer')} and "
            f"{variable_name('notice_signing_keys')}"
        )
    output.print_json(found)


def _random_key() -> str:
    return base64.b64encode(secrets.token_bytes(setting_values.KEY_BYTES)).decode()

"""`mosaic-sessions keys`: the keys that protect the store."""

from __future__ import annotations

import base64
import secrets

import click

from worker import setting_values
from worker import settings as settings_module


@click.group()
def keys() -> None:
    """Make the keys that seal what is stored."""


@keys.command("generate")
def generate() -> None:
    """Print fresh keys as settings to paste. Reads no settings and stores nothing.

    To rotate, put a new pair in front of the old ones: the first seals, all of them open. The
    lookup key stays as it is for ever: with another one no stored session is found.
    """
    kid = f"k{secrets.token_hex(3)}"
    click.echo(f"{settings_module.variable_name('encryption_keys')}={kid}:{_random_key()}")
    click.echo(f"{settings_module.variable_name('lookup_key')}={_random_key()}")


def _random_key() -> str:
    return base64.b64encode(secrets.token_bytes(setting_values.KEY_BYTES)).decode()

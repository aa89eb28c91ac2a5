"""Every verb there is, out of the command tree: one that is new is tried by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import click
from click.testing import CliRunner, Result

from migrations import target
from worker.cli.root import commands

REF: Final = "00000000-0000-7000-8000-000000000000"
# What an argument or a required option may be. By name; no verb may need another one.
EXAMPLES: Final = {
    "app_id": "shop",
    "kid": "k1",
    "ref": REF,
    "receipt_id": REF,
    "user_id": "ada",
    "client_id": "client-new",
    "reason": "a test",
    "revision": target.head(),  # where a database of a test stands
}
# What a verb needs beyond that to do anything, or to end.
ALSO: Final = {
    "apps add": ("--client-secret-file", "-"),
    "apps set": ("--max-age", "60"),
    "apps set-notice": ("--none",),
    "db downgrade": ("--yes",),
    "login-limits lift": ("--user", "ada"),
    "login-limits show": ("--user", "ada"),
    "prune": ("--history",),
    "sessions revoke": ("--yes",),
    "top": ("--once",),
}
SERVES_FOR_EVER: Final = {"monitor"}


def verbs(group: click.Group = commands, *before: str) -> Iterator[tuple[str, click.Command]]:
    for name, found in sorted(group.commands.items()):
        if isinstance(found, click.Group):
            yield from verbs(found, *before, name)
        else:
            yield " ".join((*before, name)), found


VERBS: Final = dict(verbs())
RUNNABLE: Final = sorted(VERBS.keys() - SERVES_FOR_EVER)


def words_of(verb: str, examples: Mapping[str, str] = EXAMPLES) -> list[str]:
    """A call of *verb* that can be meant."""
    given: list[str] = []
    for parameter in VERBS[verb].params:
        name = parameter.name or ""
        if isinstance(parameter, click.Argument) and parameter.required:
            given.append(examples[name])
        elif parameter.required:
            given += [parameter.opts[0], examples[name]]
        elif name == "ref":
            given.append(examples[name])
    return [*verb.split(), *given, *ALSO.get(verb, ())]


def call(*words: str) -> Result:
    return CliRunner().invoke(commands, words, input="secret\n")

"""What `apps add` and `apps set` have in common: the options that say how an app is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import IO, Any, Final, TypeVar

import click

from session_client import contract
from worker.app_registry import CAPABILITIES
from worker.cli import common
from worker.cli.common import Failure
from worker.mosaic import ClientCredential, ClientPrivateKey, ClientSecret
from worker.operations.app_description import AppChoices

Credential = TypeVar("Credential", ClientSecret, ClientPrivateKey)


class Names(click.ParamType[tuple[str, ...]]):
    """Several names in one word, with commas between them."""

    name = "names"

    def __init__(self, known: Sequence[str] = ()) -> None:
        self.known = known

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        """Show which names there are."""
        del param, ctx
        return f"[{','.join(self.known)}]" if self.known else None

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names, each once, in the order given."""
        if isinstance(value, tuple):  # the default
            return value
        names = tuple(dict.fromkeys(name.strip() for name in str(value).split(",")))
        if not all(names):
            self.fail("a name is missing: they stand with one comma between them", param, ctx)
        unknown = [name for name in names if self.known and name not in self.known]
        if unknown:
            self.fail(f"{unknown[0]!r} is none of {', '.join(self.known)}", param, ctx)
        return names


_TEN_YEARS: Final = 10 * 366 * 24 * 3600
_SECONDS: Final = click.IntRange(1, _TEN_YEARS)

# By option, the member of `AppChoices` it sets, and how it is read.
_OPTIONS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "require-amr": (
        "amr_all_of",
        {"multiple": True, "metavar": "AMR", "help": "Every login needs all of these."},
    ),
    "require-any-amr": (
        "amr_any_of",
        {"multiple": True, "metavar": "AMR", "help": "Every login needs one of these."},
    ),
    "max-age": (
        "max_age_seconds",
        {"type": _SECONDS, "metavar": "SECONDS", "help": "A login may be this old."},
    ),
    "methods": (
        "methods",
        {
            "type": Names([method.value for method in contract.Method]),
            "default": (),
            "help": "How its users may sign in, e.g. password,otp; without it, in no way.",
        },
    ),
    "transfer-url": (
        "transfer_url",
        {"metavar": "URL", "help": "Where browsers deliver tickets for it."},
    ),
    "tickets-from": (
        "tickets_from",
        {
            "type": Names(),
            "default": (),
            "metavar": "APP,…",
            "help": "The apps whose tickets it takes.",
        },
    ),
    "base-url": ("base_url", {"help": "Its Mosaic host, where it differs from the settings."}),
    "token-url": ("token_url", {"help": "Its token endpoint, likewise."}),
    "jwks-url": ("jwks_url", {"help": "Its signing keys, likewise."}),
    "issuer": ("issuer", {"help": "The iss of its ID tokens, likewise."}),
    "session-lifetime": (
        "session_lifetime_seconds",
        {"type": _SECONDS, "metavar": "SECONDS", "help": "How long its sessions live."},
    ),
}

_CAPABILITY: Final = click.Choice(sorted(CAPABILITIES))
allow_option: Callable[[Any], Any] = click.option(
    "--allow",
    multiple=True,
    type=_CAPABILITY,
    help="What it may do beyond its own sessions and the browsers that come to it.",
)
deny_option: Callable[[Any], Any] = click.option(
    "--deny", multiple=True, type=_CAPABILITY, help="What it may do no longer."
)
unset_option: Callable[[Any], Any] = click.option(
    "--unset",
    multiple=True,
    type=click.Choice(list(_OPTIONS)),
    metavar="NAME",
    help="Take one of these options back, e.g. max-age, as if it had never been given.",
)


def by_option(app: AppChoices) -> dict[str, object]:
    """Return what is chosen for *app*, by the option that chooses it."""
    chosen = {option: getattr(app, choice) for option, (choice, _) in _OPTIONS.items()}
    return chosen | {"allow": app.capabilities}


def choice_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give *verb* an option for each of `AppChoices`, under its name there."""
    for option, (choice, attributes) in reversed(_OPTIONS.items()):
        verb = click.option(f"--{option}", choice, **attributes)(verb)
    return verb


def credential_options(unsaid: str) -> Callable[[Any], Any]:
    """Return the options that say where the client's secret is, or its private key.

    *unsaid* is what it is without either.
    """
    file = click.File(encoding="utf-8")

    def add_both(verb: Callable[..., None]) -> Callable[..., None]:
        verb = click.option(
            "--client-key-file",
            type=file,
            metavar="FILE",
            help="Where its private key is, in place of a secret (private_key_jwt): PEM or JWK.",
        )(verb)
        return click.option(
            "--client-secret-file",
            type=file,
            metavar="FILE",
            help=f"Where its secret is; - is standard input. {unsaid}",
        )(verb)

    return add_both


def read_credential(
    client_secret_file: IO[str] | None, client_key_file: IO[str] | None
) -> ClientCredential | None:
    """Return what a client proves itself by, None where no file is given.

    Never an argument: those are visible to every user in `ps`.
    """
    if client_secret_file is not None and client_key_file is not None:
        raise click.UsageError("--client-secret-file or --client-key-file, not both")
    if client_key_file is not None:
        return _read(ClientPrivateKey, client_key_file.read())
    return None if client_secret_file is None else _read(ClientSecret, client_secret_file.read())


def ask_for_secret() -> ClientSecret:
    """Ask the operator at the terminal for the client secret."""
    if not common.is_at_a_terminal():
        raise Failure(
            "where is the client secret? Give --client-secret-file FILE, or - for stdin;"
            " --client-key-file FILE where the client has a private key instead"
        )
    return _read(ClientSecret, click.prompt("Client secret", hide_input=True, err=True))


def _read(kind: type[Credential], text: str) -> Credential:
    try:
        return kind.read(text)
    except ValueError as error:
        raise Failure(str(error)) from None


def changes(options: dict[str, Any], unset: tuple[str, ...]) -> dict[str, Any]:
    """Return the `AppChoices` that change: those of *options*, and the defaults of *unset*."""
    found = {choice: value for choice, value in options.items() if value not in (None, ())}
    for option in unset:
        choice, _ = _OPTIONS[option]
        if choice in found:
            raise click.UsageError(f"--{option} or --unset {option}, not both")
        found[choice] = getattr(AppChoices(), choice)
    return found

"""`mosaic-sessions apps`: which backend apps may ask, with which keys and which policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any, Final

import click

from models import NoticeMethod
from session_client.keys import AppKey
from worker.app_registry import RELOAD_AFTER_SECONDS
from worker.cli import output
from worker.cli.app_options import (
    allow_option,
    ask_for_secret,
    by_option,
    changes,
    choice_options,
    credential_options,
    deny_option,
    read_credential,
    unset_option,
)
from worker.cli.common import keyed_services, services
from worker.operations import apps as operations
from worker.operations import queue_depth
from worker.operations.app_description import AppInfo, NewApp

_SOON: Final = f"Workers notice within {RELOAD_AFTER_SECONDS:.0f} seconds."

_app_id = click.argument("app_id")
_quiet: Callable[[Any], Any] = click.option(
    "--quiet", is_flag=True, help="Print nothing but the app key, for scripts."
)
_notice_url: Callable[[Any], Any] = click.option(
    "--notice-url", metavar="URL", help="Where it takes back-channel logouts of shared sessions."
)
_notice_queue: Callable[[Any], Any] = click.option(
    "--notice-queue", metavar="NAME", help="Its own queue, where it takes them as messages instead."
)


@click.group()
def apps() -> None:
    """Register apps, change them, and give them keys."""


@apps.command("add")
@_app_id
@click.option("--client-id", required=True, help="The app's client at Mosaic.")
@credential_options("Without either a terminal is asked.")
@choice_options
@allow_option
@_notice_url
@_notice_queue
@click.option("--notify-on-expiry", is_flag=True, help="Tell it also when a session expires.")
@_quiet
@output.as_json_option
def add(  # noqa: PLR0913 - one for each option
    *,
    app_id: str,
    client_id: str,
    client_secret_file: IO[str] | None,
    client_key_file: IO[str] | None,
    allow: tuple[str, ...],
    notice_url: str | None,
    notice_queue: str | None,
    notify_on_expiry: bool,
    quiet: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Register an app and print its first key, once."""
    method, address = _notice_method(notice_url, notice_queue)
    found = keyed_services()  # before an operator is asked for a secret
    new = NewApp(
        app_id=app_id,
        client_id=client_id,
        credential=read_credential(client_secret_file, client_key_file) or ask_for_secret(),
        notice_method=method,
        notice_address=address,
        notify_on_expiry=notify_on_expiry,
        capabilities=tuple(sorted(set(allow))),
        **choices,
    )
    _print_key(app_id, operations.add_app(found, new), quiet=quiet, as_json=as_json)
    if found.settings.redis_url is not None and not (quiet or as_json):
        click.echo(
            "Answers are in the Redis of REDIS_URL: the app finds it as SESSION_REPLY_URL, under a"
            " user of its own."
        )


@apps.command("set")
@_app_id
@credential_options("A new one, after it was changed at Mosaic.")
@choice_options
@allow_option
@deny_option
@unset_option
@output.as_json_option
def set_(  # noqa: PLR0913 - one for each option
    *,
    app_id: str,
    client_secret_file: IO[str] | None,
    client_key_file: IO[str] | None,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    unset: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Change an app: what is given, and nothing else.

    An option that names several replaces all that was there; --allow and --deny alone add and take
    away. Where the app is told of ended sessions is changed with `set-notice`.
    """
    changed = changes(options, unset)
    both = sorted(set(allow) & set(deny))
    if both:
        raise click.UsageError(f"--allow {both[0]} or --deny {both[0]}, not both")
    credential = read_credential(client_secret_file, client_key_file)
    if credential is None and not (changed or allow or deny):
        raise click.UsageError("say what to change")
    operations.set_app(
        keyed_services(), app_id, credential=credential, allow=allow, deny=deny, **changed
    )
    _print_done(app_id, f"{app_id} is changed. {_SOON}", as_json=as_json)


@apps.command("list")
@output.as_json_option
def list_(*, as_json: bool) -> None:
    """List the registered apps."""
    found = operations.list_apps(services())
    if as_json:
        output.print_json(found)
        return
    output.print_table(
        (
            "app",
            "client",
            "keys",
            "policy",
            "signs in by",
            "may",
            "is told",
            "registered",
            "disabled",
        ),
        (
            (
                app.app_id,
                app.client_id,
                app.kids,
                _policy(app),
                app.methods,
                app.capabilities,
                _is_told(app),
                app.created_at,
                app.disabled_at,
            )
            for app in found
        ),
    )


@apps.command("show")
@_app_id
@output.as_json_option
def show(*, app_id: str, as_json: bool) -> None:
    """Show all that is set for an app; what is not is as the settings say."""
    app = operations.find_app(services(), app_id)
    if as_json:
        output.print_json(app)
        return
    output.print_facts(
        {
            "app": app.app_id,
            "client": app.client_id,
            "proves itself by": app.token_endpoint_auth_method,
            "keys": app.kids,
            **by_option(app),
            "is told": _is_told(app),
            "registered": app.created_at,
            "disabled": app.disabled_at,
        }
    )


@apps.command("rotate-key")
@_app_id
@_quiet
@output.as_json_option
def rotate_key(*, app_id: str, quiet: bool, as_json: bool) -> None:
    """Give an app one more key; the old ones stay valid."""
    key = operations.rotate_key(keyed_services(), app_id)
    _print_key(app_id, key, quiet=quiet, as_json=as_json)
    if not (quiet or as_json):
        click.echo(
            "Give it to the app as SESSION_APP_KEY, and the old one, unless it has leaked, as"
            " SESSION_EARLIER_KEYS: what that one sealed may still be on its way. When every"
            " process of the app has the new one, retire the old one: mosaic-sessions apps"
            f" retire-key {app_id} KID"
        )


@apps.command("retire-key")
@_app_id
@click.argument("kid")
@output.as_json_option
def retire_key(*, app_id: str, kid: str, as_json: bool) -> None:
    """Make one of an app's keys invalid; not the last one."""
    operations.retire_key(services(), app_id, kid)
    _print_done(app_id, f"Key {kid} of {app_id} is retired. {_SOON}", as_json=as_json)


@apps.command("disable")
@_app_id
@output.as_json_option
def disable(*, app_id: str, as_json: bool) -> None:
    """Refuse an app's requests; its sessions stay for the others."""
    operations.disable_app(services(), app_id)
    _print_done(app_id, f"{app_id} is disabled. {_SOON}", as_json=as_json)


@apps.command("enable")
@_app_id
@output.as_json_option
def enable(*, app_id: str, as_json: bool) -> None:
    """Serve an app's requests again."""
    operations.enable_app(services(), app_id)
    _print_done(app_id, f"{app_id} is enabled. {_SOON}", as_json=as_json)


@apps.command("remove")
@_app_id
@output.as_json_option
def remove(*, app_id: str, as_json: bool) -> None:
    """Delete an app that never shared a session."""
    operations.remove_unused_app(services(), app_id)
    if as_json:
        output.print_json({"removed": app_id})
    else:
        click.echo(f"{app_id} is removed.")


@apps.command("set-notice")
@_app_id
@_notice_url
@_notice_queue
@click.option("--none", "silence", is_flag=True, help="Do not tell it any more.")
@click.option(
    "--notify-on-expiry/--no-notify-on-expiry",
    default=None,
    help="Whether it is told also when a session expires; unsaid: as before.",
)
@output.as_json_option
def set_notice(  # noqa: PLR0913 - one for each option
    *,
    app_id: str,
    notice_url: str | None,
    notice_queue: str | None,
    silence: bool,
    notify_on_expiry: bool | None,
    as_json: bool,
) -> None:
    """Say where an app is told that a session it shares has ended."""
    method, address = _notice_method(notice_url, notice_queue)
    if silence == (method is not None):
        raise click.UsageError("say one of --notice-url, --notice-queue and --none")
    found = keyed_services()
    left = queue_depth.queue_of(found, app_id)
    operations.set_notice(found, app_id, method, address, notify_on_expiry=notify_on_expiry)
    done = f"{app_id} is told like this from its next notice on."
    if silence:
        closed = "what it has not confirmed is closed, and is no failure"
        done = f"{app_id} is not told any more; {closed}."
    _print_done(app_id, done, as_json=as_json)
    if left is not None and left.queue != address and left.waiting.count:
        click.echo(
            f"{left.waiting.count} messages are left in queue {left.queue}. Unless the app's own "
            "worker still takes them, delete the queue at the broker: nothing else does",
            err=True,
        )


def _print_done(app_id: str, done: str, *, as_json: bool) -> None:
    """Say what was done; to machines, how the app is now."""
    if as_json:
        output.print_json(operations.find_app(services(), app_id))
    else:
        click.echo(done)


def _notice_method(url: str | None, queue: str | None) -> tuple[NoticeMethod | None, str | None]:
    if url is not None and queue is not None:
        raise click.UsageError("--notice-url or --notice-queue, not both")
    if url is not None:
        return NoticeMethod.BACKCHANNEL, url
    if queue is not None:
        return NoticeMethod.QUEUE, queue
    return None, None


def _print_key(app_id: str, key: AppKey, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        output.print_json({"app_id": app_id, "kid": key.kid, "app_key": key.text()})
        return
    if quiet:
        click.echo(key.text())
        return
    click.echo(f"The key of {app_id} with kid {key.kid}; it is shown this once:\n\n{key.text()}\n")
    click.echo(
        "Keep it in the app's secret store, and give it to SessionClient as `app_key`. "
        "Its holder can act as this app."
    )


def _policy(app: AppInfo) -> tuple[str, ...]:
    parts = [f"amr {amr}" for amr in app.amr_all_of]
    if app.amr_any_of:
        parts.append(f"amr {' or '.join(app.amr_any_of)}")
    if app.max_age_seconds is not None:
        parts.append(f"at most {app.max_age_seconds} s old")
    return tuple(parts)


def _is_told(app: AppInfo) -> str | None:
    if app.notice_method is None:
        return None
    also = ", also of expiry" if app.notify_on_expiry else ""
    return f"{app.notice_method} {app.notice_address}{also}"

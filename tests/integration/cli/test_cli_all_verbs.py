"""Every verb there is, whatever is wrong: a line, a documented exit code, and no traceback."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import click
import pytest
from alembic import command
from click.testing import Result

from migrations.target import config_for
from sandbox.ports import free_port
from simulator.server import SimulatorServer
from tests.faults.rabbitmq_rig import brokered_by
from tests.integration.cli.verbs_rig import EXAMPLES, RUNNABLE, VERBS, call, words_of
from tests.stage import Stage
from worker import wiring
from worker.cli.app_options import Names
from worker.settings import model as settings_module

ROOT: Final = Path(__file__).parents[3]
NO_JSON: Final = {"audit export", "monitor", "top"}  # lines of JSON; a server; a screen
# They look at what is down, and report it: with `--json` for machines.
REPORTS: Final = {"status", "doctor", "top", "db check"}
WITHOUT_KEYS: Final = {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}


def documented() -> set[int]:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ", page.partition("### Exit codes")[2], re.MULTILINE)
    return {int(code) for code in rows}


def check(verb: str, result: Result) -> None:
    """Hold what *verb* said to what an operator must see."""
    assert result.exit_code in documented(), (verb, result.exit_code, result.output)
    assert result.exception is None or isinstance(result.exception, SystemExit), verb
    for text in (result.stdout, result.stderr):
        assert "Traceback" not in text, (verb, text)
        assert "canary" not in text, (verb, text)
    if result.exit_code and verb not in REPORTS:
        lines = [line for line in result.stderr.splitlines() if "[warning" not in line]
        assert len(lines) == 1, (verb, result.stderr)
        assert lines[0].startswith("Error: "), (verb, lines)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_wrong_arguments_are_told_in_a_line_that_names_the_help(verb: str) -> None:
    unknown = call(*words_of(verb), "--no-such-option")
    too_many = call(*words_of(verb), "one", "more")

    for result in (unknown, too_many):
        assert result.exit_code == 2, result.output
        check(verb, result)
        assert f"({verb} --help)" in result.stderr.replace("commands ", "")


def nonsense(parameter: click.Parameter) -> str | None:
    """What its value can never be; None where any text may be meant, or it takes none."""
    kind: click.ParamType[Any] = parameter.type
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return None
    if isinstance(kind, click.File):
        return "/no/such/file"
    text = kind is click.STRING or (isinstance(kind, Names) and not kind.known)
    return None if text else "nonsense"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_value_that_cannot_be_meant_is_told_with_the_option_it_is_of(verb: str) -> None:
    for parameter in VERBS[verb].params:
        value = nonsense(parameter)
        if value is None:
            continue
        if isinstance(parameter, click.Argument):
            words = [value if w == EXAMPLES[parameter.name or ""] else w for w in words_of(verb)]
        else:
            words = [*words_of(verb), parameter.opts[0], value]
        result = call(*words)
        assert result.exit_code == 2, (words, result.output)
        check(verb, result)
        assert parameter.opts[0].upper().strip("-") in result.stderr.upper(), result.stderr


def test_before_the_verb_likewise_and_nothing_at_all_prints_the_help() -> None:
    unknown = call("--no-such-option")
    misspelt = call("app", "list")

    for result in (unknown, misspelt):
        check("", result)
        assert result.exit_code == 2
    for words in ((), ("apps",)):
        assert call(*words).exit_code == 2
        assert "Usage:" in call(*words).output


def test_every_verb_speaks_json_and_has_a_help() -> None:
    without = {verb for verb, found in VERBS.items() if "as_json" not in names_of(found)}

    assert without == NO_JSON
    assert all(found.help for found in VERBS.values())


def names_of(found: click.Command) -> set[str | None]:
    return {parameter.name for parameter in found.params}


def test_without_settings_every_verb_says_which_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wiring, "_current", None)
    monkeypatch.setattr(settings_module, "current", lambda: settings_module.read(WITHOUT_KEYS))

    for verb in RUNNABLE:
        if verb == "keys generate" or verb.startswith("db "):
            continue  # one needs none; DATABASE_URL has a default
        result = call(*words_of(verb))
        assert result.exit_code == 78, (verb, result.output)
        check(verb, result)


def test_without_a_database_every_verb_says_so(redis_url: str, mosaic: SimulatorServer) -> None:
    url = f"postgresql+psycopg://user:pw-canary@127.0.0.1:{free_port()}/sessions"
    with Stage(url, redis_url, mosaic), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        for verb in RUNNABLE:
            result = call(*words_of(verb))
            check(verb, result)
            if result.exit_code and verb != "keys jwks":
                assert "the database " in result.output, (verb, result.output)
                assert "DATABASE_URL right" in result.output


@pytest.mark.usefixtures("redis_server")  # which sets what celeryconfig reads
def test_without_redis_every_verb_says_so(sqlite_url: str, mosaic: SimulatorServer) -> None:
    url = f"redis://:pw-canary@127.0.0.1:{free_port()}/0"
    with Stage(sqlite_url, url, mosaic) as stage, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", sqlite_url)
        stage.add_app("shop")
        for verb in RUNNABLE:
            check(verb, call(*words_of(verb)))


def test_without_its_rabbitmq_every_verb_says_so(sqlite_stage: Stage) -> None:
    url = f"amqp://user:pw-canary@127.0.0.1:{free_port()}/sessions"
    with brokered_by(url, sqlite_stage), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", sqlite_stage.settings.store_url)
        sqlite_stage.add_app("shop")
        for verb in RUNNABLE:
            result = call(*words_of(verb))
            check(verb, result)
            if verb in {"status", "doctor", "top"}:
                assert "the broker does not answer" in result.output, (verb, result.output)


def test_on_a_schema_that_is_behind_every_verb_says_so(
    tmp_path: Path, redis_url: str, mosaic: SimulatorServer
) -> None:
    url = f"sqlite:///{tmp_path / 'behind.db'}"
    command.upgrade(config_for(url), "0001")
    with Stage(url, redis_url, mosaic), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        for verb in RUNNABLE:
            if verb == "db upgrade":
                continue
            result = call(*words_of(verb))
            check(verb, result)
            if result.exit_code == 78 and verb != "keys jwks":
                assert "mosaic-sessions db upgrade" in result.stderr, (verb, result.stderr)


def test_with_other_keys_what_seals_is_refused_and_the_rest_works(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        stage.registered("ada", "shop")
    other = {"encryption_keys": "k1:" + "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg="}
    refused = set()
    with Stage(sqlite_url, redis_url, mosaic, **other), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", sqlite_url)
        for verb in RUNNABLE:
            result = call(*words_of(verb))
            check(verb, result)
            if result.exit_code == 78 and verb != "keys jwks":
                refused.add(verb)
                assert "does not open what is stored" in result.stderr

    assert refused == {
        *("apps add", "apps set", "apps set-notice", "apps rotate-key", "keys rotate"),
        *("login-limits lift", "login-limits show"),
    }

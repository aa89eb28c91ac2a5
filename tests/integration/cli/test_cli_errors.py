"""Whatever goes wrong ends in one line that says what to do, an exit code, and no traceback."""

from __future__ import annotations

import json

import pytest
import redis
from sqlalchemy.exc import ProgrammingError

from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import complaint, run
from tests.stage import Stage
from worker import wiring
from worker.cli import main
from worker.cli.common import failure_of
from worker.errors import ClientRefused, ConfigurationError, MosaicUnavailable, StoreUnavailable
from worker.operations.app_description import AppError


def test_postgres_without_tables_is_told_in_words(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(postgres_url, redis_url, mosaic) as stage:
        with stage.services.store.write() as connection:
            connection.exec_driver_sql("ALTER TABLE apps RENAME TO elsewhere")

        assert "mosaic-sessions db upgrade" in complaint("apps", "list")


def test_a_postgres_that_is_behind_is_exit_code_78(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(postgres_url, redis_url, mosaic) as stage:
        with stage.services.store.write() as connection:
            connection.exec_driver_sql("DROP TABLE operator_actions")
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0005'")

        assert "the database is at 0005" in complaint("audit", "list", expect=78)


@pytest.mark.parametrize("verb", [("apps", "list"), ("status",), ("config",), ("prune",)])
def test_wrong_settings_are_exit_code_78(
    verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ConfigurationError("MOSAIC_SESSIONS_LOOKUP_KEY is missing")

    monkeypatch.setattr(wiring, "current", refuse)

    assert complaint(*verb, expect=78) == "Error: MOSAIC_SESSIONS_LOOKUP_KEY is missing"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigurationError("set it"), 78, "set it"),
        (AppError("there is no app"), 1, "there is no app"),
        (StoreUnavailable("the database does not answer"), 1, "DATABASE_URL"),
        (
            ProgrammingError("SELECT canary", {}, Exception("canary")),
            1,
            "mosaic-sessions db upgrade",
        ),
        (redis.ConnectionError("redis://:canary@host refused"), 1, "CELERY_BROKER_URL"),
        (redis.AuthenticationError("canary"), 1, "REDIS_URL"),
        (MosaicUnavailable("timed out"), 1, "timed out"),
        (ClientRefused("wrong secret"), 1, "wrong secret"),
        (UnicodeDecodeError("utf-8", b"canary\xff", 6, 7, "no"), 1, "UTF-8"),
    ],
)
def test_every_kind_of_error_has_its_words_and_exit_code(
    error: Exception, code: int, words: str
) -> None:
    failure = failure_of(error)

    assert failure.exit_code == code
    assert words in failure.message
    assert "canary" not in failure.message


def test_a_message_of_several_lines_becomes_one() -> None:
    assert failure_of(AppError("one\n  two")).message == "one two"


def test_a_bug_is_a_line_of_its_own_and_a_traceback_with_debug(
    sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: object) -> None:
        raise ZeroDivisionError("canary")

    monkeypatch.setattr("worker.operations.apps.list_apps", crash)

    told = complaint("apps", "list", expect=70)
    assert "ZeroDivisionError" in told
    assert "mosaic-sessions --debug" in told
    assert "canary" not in told
    with pytest.raises(ZeroDivisionError):
        run("--debug", "apps", "list")


@pytest.mark.parametrize("verb", [(), ("apps",), ("sessions",), ("keys",), ("notices",)])
def test_a_noun_alone_explains_itself(verb: tuple[str, ...]) -> None:
    assert "Usage:" in run(*verb, "--help").stdout


def test_all_nouns_are_there() -> None:
    printed = run("--help").stdout

    for noun in ("apps", "config", "keys", "monitor", "notices", "prune", "sessions", "status"):
        assert f"\n  {noun} " in printed


def test_main_closes_what_a_verb_opened(
    sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(type(sqlite_stage.services), "close", lambda _: closed.append(True))
    monkeypatch.setattr("sys.argv", ["mosaic-sessions", "apps", "list", "--json"])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 0
    assert capsys.readouterr().out == "[]\n"
    assert closed == [True]


def test_log_lines_never_mix_with_the_answer(
    sqlite_url: str,
    redis_url: str,
    mosaic: SimulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hurried = {"maintenance_batch": "1", "maintenance_budget_seconds": "0.000001"}
    with Stage(sqlite_url, redis_url, mosaic, **hurried) as stage:
        stage.add_app("shop")
        for _ in range(2):
            stage.registered("ada", "shop")
        stage.pass_time(days=15)
        monkeypatch.setattr("sys.argv", ["mosaic-sessions", "prune", "--json"])
        capsys.readouterr()

        with pytest.raises(SystemExit):
            main()

    printed = capsys.readouterr()
    assert json.loads(printed.out)["expired"] == 1
    assert "maintenance_out_of_time" in printed.err

"""Whatever verb changes a row: who did it is written down."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from click.testing import CliRunner
from sqlalchemy import insert, update

from migrations import target
from models import Logout, OperatorAction, UserRevocation
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import run, three_notices, told
from tests.integration.cli.verbs_rig import RUNNABLE, words_of
from tests.integration.outbox.propagation_rig import signing
from tests.stage import Stage
from worker.cli.root import commands
from worker.logins import limits
from worker.logins.limits import Guesser
from worker.outbox import leases
from worker.outbox.leases import MAX_CRASHES
from worker.sessions.audit import Cause
from worker.sessions.operator_trail import Action

WHO: Final = "grace, ticket 4711"
# `db upgrade` and `db downgrade` have nothing to do here: tests/migrations shows what they write
# down. And no guard stands in the way, and what is revoked is one session.
ELSEWHERE: Final = {Action.SCHEMA_CHANGED, Action.GUARD_OVERRIDDEN, Action.REVOCATION_BEGUN}


def something_for_each(stage: Stage) -> dict[str, dict[str, str]]:
    """Fill the store so that each verb finds something to do. Returns what it is to be told."""
    three_notices(stage)
    stage.add_app("unused")
    stage.add_app("asleep")
    run("apps", "disable", "asleep")
    first = told("apps", "show", "shop")["kids"][0]
    run("apps", "rotate-key", "shop")
    with stage.services.store.write() as connection:
        connection.execute(update(Logout).values(crashes=MAX_CRASHES + 1))
    stage.tell_mosaic()
    receipt = UUID(str(stage.log_out(session_ref=str(stage.registered("ada", "shop"))).receipt_id))
    dead_lettered_revocation(stage, receipt)
    stage.registered("bob", "shop")
    stage.pass_time(days=15)  # their time is up
    alive = stage.registered("ada", "shop")
    ada = limits.subject_of(stage.services, "user_id", "ada")
    guesser = Guesser(by=Cause("shop", None), subject=ada)
    limits.count(stage.services, guesser, limits.guesses(guesser))
    common = {"kid": first, "ref": str(alive), "receipt_id": str(receipt), "user_id": "ada"}
    common |= {"client_id": "client-new", "reason": "a test", "app_id": "shop"}
    common |= {"revision": target.head()}
    others = {"apps add": "new", "apps remove": "unused", "apps enable": "asleep"}
    return {
        verb: common | ({"app_id": others[verb]} if verb in others else {}) for verb in RUNNABLE
    }


def dead_lettered_revocation(stage: Stage, receipt: UUID) -> None:
    now = stage.now()
    values = {"outcome": leases.DEAD, "closed_at": now, "created_at": now, "give_up_at": now}
    values |= {"next_attempt_at": now, "woken_at": now, "began_before": now, "frontend": False}
    values |= {"logout_request_id": receipt, "user_id": "ada", "requested_by": "shop"}
    with stage.services.store.write() as connection:
        connection.execute(insert(UserRevocation).values(values))


def dumped(stage: Stage) -> tuple[dict[str, Any], list[Any]]:
    """All that is stored, and apart from it what operators did."""
    tables = stage.dump()
    del tables[OperatorAction.__tablename__]
    return tables, told("audit", "list", "--limit", "1000")["actions"]


def called(verb: str, words: Iterable[str]) -> None:
    result = CliRunner().invoke(commands, ["--as", WHO, *words], input="secret\n")
    assert result.exit_code in {0, 1, 69}, (verb, result.output)
    if result.exit_code:
        assert verb in {"doctor", "status"}, (verb, result.output)


def test_each_verb_that_changes_a_row_says_who_did_it(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, monkeypatch: Any
) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    with signing(sqlite_url, redis_url, mosaic) as stage:
        examples = something_for_each(stage)
        seen = set()
        # What removes something comes last, or others would find nothing to do.
        for verb in sorted(RUNNABLE, key=lambda verb: verb in {"prune", "sessions revoke"}):
            before, did = dumped(stage)
            called(verb, words_of(verb, examples[verb]))
            after, done = dumped(stage)
            new = [row for row in done if row not in did]
            assert new or before == after, verb
            assert all(row["operator"].startswith(WHO) for row in new), (verb, new)
            seen |= {Action(row["action"]) for row in new}

    assert seen == set(Action) - ELSEWHERE

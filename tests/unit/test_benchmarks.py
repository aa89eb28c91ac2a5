"""The bench's own helpers: what they tell must be true before anything is concluded from it."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from benchmarks import aims, counting, people, shown
from benchmarks.fake_mosaic import Connection, State
from benchmarks.figures import Burst, Crowd, Figures, Import, Memory, Sample
from benchmarks.percentiles import percentile
from benchmarks.tables import Table


class Wire(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)


def ask(state: State, *chunks: bytes) -> bytes:
    wire, connection = Wire(), Connection(state)
    connection.connection_made(wire)
    for chunk in chunks:
        connection.data_received(chunk)
    return wire.written


def request(path: str, body: bytes = b"", headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_the_fake_gives_each_user_a_token_that_the_shown_key_has_signed() -> None:
    state = State()
    body = json.dumps({"session_id": people.session_id("ada")}).encode()
    bearer = "authorization: Bearer client-token.client-app-1\r\n"

    whole = request("/cis/v1/auth/session/authenticate", body, bearer)
    answer = ask(state, whole[:30], whole[30:-4], whole[-4:])

    tokens = json.loads(answer.partition(b"\r\n\r\n")[2])
    shown = json.loads(ask(state, request("/cis/oidc/jwks")).partition(b"\r\n\r\n")[2])
    claims = jwt.decode(tokens["id_token"], KeySet.import_key_set(shown)).claims
    assert (claims["sub"], claims["aud"], claims["iss"]) == ("ada", "client-app-1", people.ISSUER)
    assert claims["exp"] > datetime.now(UTC).timestamp()
    assert state.calls == {"authenticate": 1, "jwks": 1}


def test_the_fake_answers_requests_that_come_in_one_piece() -> None:
    state = State()
    form = b"grant_type=client_credentials&client_id=client-app-0&client_secret=x"
    both = request("/oidc/token", form) + request("/cis/v1/auth/session/logout", b"{}")

    answers = ask(state, both)

    assert b'"access_token": "client-token.client-app-0"' in answers
    assert answers.endswith(b"HTTP/1.1 204 No Content\r\n\r\n")


def test_the_fake_is_late_by_its_latency() -> None:
    async def scenario() -> tuple[bytes, bytes]:
        state, wire = State(), Wire()
        connection = Connection(state)
        connection.connection_made(wire)
        connection.data_received(request("/admin/latency/20"))
        before = wire.written
        connection.data_received(request("/cis/v1/auth/session/logout"))
        at_once = wire.written
        await asyncio.sleep(0.1)
        return at_once[len(before) :], wire.written[len(before) :]

    at_once, later = asyncio.run(scenario())

    assert at_once == b""
    assert later.startswith(b"HTTP/1.1 204")


def test_no_user_comes_again_before_all_others_have() -> None:
    users = [people.user_id(number) for number in range(people.USERS)]

    assert len(set(users)) == people.USERS
    assert people.user_id(people.USERS) == users[0]
    assert people.app_of(people.USERS) == people.app_of(0)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_seen(share: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    assert math.isnan(percentile([], 0.5))


def test_a_table_has_its_numbers_to_the_right() -> None:
    table = Table("Title", ["who", "n"], [["a", "5"], ["bb", "-"], ["c", "123"]], "A note.")

    assert table.as_text().splitlines() == [
        "Title",
        "--------",
        "who    n",
        "--------",
        "a      5",
        "bb     -",
        "c    123",
        "--------",
        "A note.",
    ]
    assert "| a | 5 |" in table.as_markdown()


def test_counts_lie_in_a_file_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    counting.create(path)
    counts = counting.Counts(path)

    counts.add("redis")
    counts.add("redis")
    counts.add("statements")

    assert counting.read(path) == {"redis": 2, "statements": 1, "transaction_control": 0}


def sample(subject: str, *, per_second: float, cpu: float) -> Sample:
    return Sample(
        subject=subject,
        pool="threads",
        mosaic_ms=0.0,
        per_second=per_second,
        worker_cpu_ms=cpu,
        client_cpu_ms=0.5 if subject == "ours" else 1.0,
        postgres_cpu_ms=0.5,
        redis_cpu_ms=0.3,
        fake_cpu_ms=0.1,
        p50_ms=20.0,
        errors=0,
        strangers=0.0,
    )


def words_of(figures: Figures) -> list[str]:
    return [verdict.word for verdict in aims.verdicts(figures)]


def test_the_clients_own_aims_are_each_held_by_themselves() -> None:
    good = Crowd(broker="TLS", last_ended_seconds=1.2, late_ms=50.0, longest_turn_cpu_ms=9.0)
    bad = Crowd(broker="TLS", last_ended_seconds=1.3, late_ms=51.0, longest_turn_cpu_ms=9.0)
    imports = [Import(cpu_ms=c, memory_mib=m) for c, m in ((60.0, 20.0), (61.0, 1.0), (1.0, 21.0))]

    assert words_of(Figures(crowd=[good])) == ["met", "met"]
    assert words_of(Figures(crowd=[bad])) == ["missed", "missed"]
    assert words_of(Figures(imports=imports)) == ["met", "missed", "missed"]


def test_each_aim_is_held_against_the_median_of_its_rounds() -> None:
    noop = [sample("noop", per_second=700, cpu=c) for c in (1.0, 5.0, 0.02)]
    peer = [sample("peer", per_second=p, cpu=5.0) for p in (100, 4000, 0.5)]
    good = [sample("ours", per_second=p, cpu=c) for p, c in ((230, 1.9), (240, 9.9), (200, 0.1))]
    bad = [sample("ours", per_second=p, cpu=c) for p, c in ((229, 2.1), (240, 9.9), (200, 0.1))]

    assert words_of(Figures(samples=[*noop, *peer, *good])) == ["met", "met", "met", "missed"]
    assert words_of(Figures(samples=[*noop, *peer, *bad])) == ["missed", "met", "missed", "missed"]


def test_a_moonshot_is_called_one() -> None:
    samples = [sample("noop", per_second=900, cpu=1.0), sample("ours", per_second=333, cpu=1.5)]

    assert words_of(Figures(samples=samples)) == ["moonshot", "met", "met"]


def test_what_else_is_asked_of_our_worker_is_held_against_a_silent_authentication() -> None:
    ours = sample("ours", per_second=100, cpu=2.0)
    cheap = [sample("browser", per_second=1, cpu=2.06), sample("login", per_second=1, cpu=3.0)]
    dear = [sample("browser", per_second=1, cpu=2.07), sample("login", per_second=1, cpu=3.1)]

    assert words_of(Figures(samples=[ours, *cheap])) == ["met", "met", "missed"]
    assert words_of(Figures(samples=[ours, *dear])) == ["missed", "missed", "missed"]


def test_a_worker_that_grows_by_more_than_a_twentieth_misses_its_aim() -> None:
    def grown(after: int) -> Memory:
        return Memory(
            subject="ours", pool="threads", requests=9, before_bytes=1000, after_bytes=after
        )

    assert words_of(Figures(memory=[grown(1049), grown(1051)])) == ["met", "missed"]


def test_the_tables_show_every_figure_that_was_taken() -> None:
    figures = Figures(samples=[sample("ours", per_second=250, cpu=4.0)])
    figures.burst.append(Burst(subject="ours", requests=200, answered=200, mosaic_calls=1))

    closed, capacity, burst, verdicts = shown.tables_of(figures)

    assert [len(row) for row in closed.rows] == [len(closed.head)]
    assert closed.rows[0][:4] == ["threads", "0 ms", "ours", "250"]
    # 333 requests of 4 ms CPU, by cores that are busy for 70 %.
    assert capacity.rows[0] == ["333/s", "ours", "1.9", "0.17", "0.10"]
    assert burst.rows == [["ours", "200", "200", "1"]]
    assert [row[-1] for row in verdicts.rows] == ["missed", "met"]

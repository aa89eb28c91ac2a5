"""Scripts run on connections that look for unread data only when there may be some."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from pytest_mock import MockerFixture
from redis.connection import AbstractConnection

from sandbox.ports import HOST
from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from tests.stage import redis_client
from worker.storage import redis_scripts
from worker.storage.redis_client import connect_redis
from worker.storage.redis_scripts import Call, Script, ScriptRunner

TELL = Script("return {KEYS, ARGV}")
SET = Script("return redis.call('SET', KEYS[1], ARGV[1])")
GET = Script("return redis.call('GET', KEYS[1])")
REFUSE = Script("return redis.error_reply('NO not today')")
COUNT = Script("return redis.call('INCR', KEYS[1])")
# Busy for as many microseconds as it is told.
TARRY = Script(
    """
    local function now()
      local time = redis.call("TIME")
      return time[1] * 1000000 + time[2]
    end
    local till = now() + ARGV[1]
    while now() < till do end
    return "theirs"
    """
)

THREADS, ROUNDS = 16, 100
NAME = "told-apart"


@pytest.fixture
def url(redis_url: str) -> str:
    """An empty Redis, where our connections have a name."""
    return f"{redis_url}?client_name={NAME}"


@pytest.fixture
def runner(url: str) -> Iterator[ScriptRunner]:
    with running(url) as runner:
        yield runner


@contextmanager
def running(url: str, timeout_seconds: float = 10) -> Iterator[ScriptRunner]:
    runner = ScriptRunner(connect_redis(url, timeout_seconds).connection_pool)
    try:
        yield runner
    finally:
        runner.close()


def told(runner: ScriptRunner, word: str) -> bool:
    """Whether the answer is the one to this very question."""
    return bool(runner.run(TELL, [word], [word]) == [[word.encode()], [word.encode()]])


def connections(url: str) -> set[str]:
    """Return what Redis calls the connections that are open."""
    with redis_client(url.partition("?")[0]) as client:
        return {known["id"] for known in client.client_list() if known["name"] == NAME}


def name_of(packed: Iterable[bytes]) -> str:
    """Return the name of the first command that is sent."""
    return b"".join(packed).split(b"\r\n")[2].decode()


@contextmanager
def interrupted(command: str) -> Iterator[None]:
    """Interrupt whoever has sent *command*, before anything of its answer is read."""
    send: Any = redis.Connection.send_packed_command

    def send_and_stop(connection: AbstractConnection, packed: Any, **options: Any) -> None:
        send(connection, packed, **options)
        if name_of(packed) == command:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis.Connection, "send_packed_command", send_and_stop)
        with pytest.raises(KeyboardInterrupt):
            yield


def make_health_check_due(runner: ScriptRunner) -> None:
    for connection, _ in runner._idle:
        connection.next_health_check = 0


# --- one call


def test_keys_and_arguments_arrive_and_the_answer_comes_back(runner: ScriptRunner) -> None:
    answer = runner.run(TELL, ["a", "b"], ["text", b"\x00\xff", 7, 0.5])

    assert answer == [[b"a", b"b"], [b"text", b"\x00\xff", b"7", b"0.5"]]


def test_a_script_needs_neither_keys_nor_arguments(runner: ScriptRunner) -> None:
    assert runner.run(TELL, [], []) == [[], []]


def test_a_script_that_redis_has_forgotten_still_runs(runner: ScriptRunner, redis_url: str) -> None:
    runner.run(COUNT, ["n"], [])
    with redis_client(redis_url) as client:
        client.script_flush()

    assert runner.run(COUNT, ["n"], []) == 2


def test_the_text_of_a_script_is_sent_once(runner: ScriptRunner, mocker: MockerFixture) -> None:
    runner.run(TELL, [], [])
    sent = mocker.spy(redis.Connection, "send_packed_command")

    runner.run(TELL, [], [])

    assert [name_of(call.args[1]) for call in sent.call_args_list] == ["EVALSHA"]


@pytest.mark.parametrize(
    ("name", "script", "keys", "arguments"),
    [
        ("EVALSHA", "f" * 40, ["ключ"], [b"\x00\r\n$1", "", 7, -1, 0.5, 1e300]),
        ("EVAL", "x" * 100_000, [], []),
    ],
)
def test_commands_are_written_as_redis_py_writes_them(
    name: str, script: str, keys: list[str], arguments: list[Any]
) -> None:
    theirs = redis.Connection().pack_command(name, script, len(keys), *keys, *arguments)

    ours = redis_scripts._command(name, script, Call(TELL, keys, arguments))

    assert ours == b"".join(theirs)


# --- several in one trip


def test_scripts_run_in_their_order_and_each_answer_comes_back(runner: ScriptRunner) -> None:
    answers = runner.run_all(
        Call(SET, ["a"], ["1"]), Call(GET, ["a"], []), Call(SET, ["a"], ["2"]), Call(GET, ["a"], [])
    )

    assert answers == [b"OK", b"1", b"OK", b"2"]


def test_scripts_that_go_together_are_one_trip(runner: ScriptRunner, mocker: MockerFixture) -> None:
    runner.run_all(Call(SET, ["a"], ["1"]), Call(GET, ["a"], []))
    sent = mocker.spy(redis.Connection, "send_packed_command")

    runner.run_all(Call(SET, ["a"], ["1"]), Call(GET, ["a"], []))

    assert sent.call_count == 1


def test_scripts_that_redis_has_forgotten_still_run_once(
    runner: ScriptRunner, redis_url: str
) -> None:
    runner.run_all(Call(COUNT, ["n"], []), Call(COUNT, ["m"], []))
    with redis_client(redis_url) as client:
        client.script_flush()

    assert runner.run_all(Call(COUNT, ["n"], []), Call(COUNT, ["m"], [])) == [2, 2]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_that_is_refused_keeps_no_other_from_running(runner: ScriptRunner, place: int) -> None:
    calls = [Call(COUNT, ["n"], []), Call(COUNT, ["n"], [])]
    calls.insert(place, Call(REFUSE, [], []))

    with pytest.raises(redis.ResponseError, match="not today"):
        runner.run_all(*calls)

    assert runner.run(GET, ["n"], []) == b"2"  # nor is its answer left for the next


# --- looking for unread data


def test_after_an_answer_nobody_looks_for_unread_data(
    runner: ScriptRunner, mocker: MockerFixture
) -> None:
    mocker.patch.object(redis_scripts, "BELIEVED_SECONDS", 60)
    runner.run(TELL, [], [])
    looked = mocker.spy(redis.Connection, "can_read")

    assert told(runner, "mine")

    assert looked.call_count == 0


def test_after_a_while_somebody_looks(runner: ScriptRunner, mocker: MockerFixture) -> None:
    mocker.patch.object(redis_scripts, "BELIEVED_SECONDS", 0)
    runner.run(TELL, [], [])
    looked = mocker.spy(redis.Connection, "can_read")

    assert told(runner, "mine")

    assert looked.call_count == 1


def test_what_lies_unread_on_an_idle_connection_is_nobodys_answer(
    runner: ScriptRunner, url: str, mocker: MockerFixture
) -> None:
    mocker.patch.object(redis_scripts, "BELIEVED_SECONDS", 0)
    runner.run(TELL, [], [])
    [(connection, _)] = runner._idle
    connection.send_command("ECHO", "stray")
    poll_until(connection.can_read, 10, what="the stray answer")

    assert told(runner, "mine")

    poll_until(lambda: len(connections(url)) == 1, 10, what="the other to be closed")


def test_looking_keeps_a_sound_connection(
    runner: ScriptRunner, url: str, mocker: MockerFixture
) -> None:
    mocker.patch.object(redis_scripts, "BELIEVED_SECONDS", 0)
    runner.run(TELL, [], [])
    before = connections(url)

    runner.run(TELL, [], [])

    assert connections(url) == before


# --- interruptions


@pytest.mark.parametrize("command", ["EVALSHA", "EVAL"])
def test_the_answer_of_an_interrupted_call_is_not_read_by_the_next(
    runner: ScriptRunner, redis_url: str, command: str
) -> None:
    assert told(runner, "before")
    with redis_client(redis_url) as client:
        client.script_flush()  # so that both are sent

    with interrupted(command):
        runner.run(TELL, ["theirs"], [])

    assert told(runner, "mine")


def test_nor_after_a_health_check(runner: ScriptRunner) -> None:
    assert told(runner, "before")

    make_health_check_due(runner)
    with interrupted("EVALSHA"):
        runner.run(TELL, ["theirs"], [])
    make_health_check_due(runner)

    assert told(runner, "mine")


def test_a_health_check_that_is_interrupted_leaves_no_pong_behind(runner: ScriptRunner) -> None:
    assert told(runner, "before")

    make_health_check_due(runner)
    with interrupted("PING"):
        runner.run(TELL, ["theirs"], [])

    assert told(runner, "mine")


def test_an_interrupted_connection_is_closed_at_once(runner: ScriptRunner, url: str) -> None:
    runner.run(TELL, [], [])
    [(kept_alive, _)] = runner._idle  # so that nothing else closes it

    with interrupted("EVALSHA"):
        runner.run(TELL, [], [])

    poll_until(lambda: not connections(url), 10, what="the connection to be closed")
    assert not kept_alive.is_connected


def test_an_answer_that_comes_too_late_is_not_read_by_the_next_call(url: str) -> None:
    with running(url, timeout_seconds=0.5) as impatient:
        with pytest.raises(redis.TimeoutError):
            impatient.run(TARRY, [], [1_500_000])
        with redis_client(url) as patient:
            patient.ping()  # answered only when the script has ended
        # A connection made from now on waits long; the old one would still have the late answer.
        make: Any = impatient._make
        impatient._make = partial(make, socket_timeout=60, socket_connect_timeout=60)

        assert told(impatient, "mine")


# --- errors


def test_what_a_script_refuses_is_raised(runner: ScriptRunner) -> None:
    with pytest.raises(redis.ResponseError, match="not today"):
        runner.run(REFUSE, [], [])


def test_a_command_that_fails_within_a_script_is_raised(runner: ScriptRunner) -> None:
    runner.run(SET, ["word"], ["not a number"])

    with pytest.raises(redis.ResponseError, match="not an integer"):
        runner.run(COUNT, ["word"], [])


def test_a_key_of_the_wrong_type_is_raised(runner: ScriptRunner, redis_url: str) -> None:
    with redis_client(redis_url) as client:
        client.rpush("list", "element")

    with pytest.raises(redis.ResponseError, match="wrong kind of value"):
        runner.run(COUNT, ["list"], [])


def test_an_error_costs_no_connection(runner: ScriptRunner, url: str) -> None:
    runner.run(TELL, [], [])
    before = connections(url)

    for _ in range(3):
        with pytest.raises(redis.ResponseError):
            runner.run(REFUSE, [], [])

    assert told(runner, "mine")
    assert connections(url) == before


def test_a_redis_that_is_away_is_a_connection_error() -> None:
    with RedisServer() as server, running(server.url()) as runner:
        server.stop()

        with pytest.raises(redis.ConnectionError):
            runner.run(TELL, [], [])


# --- restarts


def failures_after_a_restart(calls: int = 5) -> int:
    with RedisServer(appendonly=True) as server, running(server.url()) as runner:
        runner.run(SET, ["a"], ["1"])
        server.restart(keep_data=True, kill=True)

        failures = 0
        for _ in range(calls):
            try:
                assert runner.run(GET, ["a"], []) == b"1"
            except redis.ConnectionError:
                failures += 1
    return failures


def test_a_restart_costs_a_connection_one_call_at_most() -> None:
    assert failures_after_a_restart() <= 1


def test_a_restart_a_while_ago_costs_nothing(mocker: MockerFixture) -> None:
    mocker.patch.object(redis_scripts, "BELIEVED_SECONDS", 0)

    assert failures_after_a_restart() == 0


# --- many


def test_threads_get_their_own_answers_on_a_connection_each_at_most(
    runner: ScriptRunner, url: str
) -> None:
    def ask(thread: int) -> bool:
        return all(told(runner, f"{thread}-{number}") for number in range(ROUNDS))

    with ThreadPoolExecutor(THREADS) as threads:
        assert all(threads.map(ask, range(THREADS)))

    assert 1 <= len(connections(url)) <= THREADS


def test_refusals_among_many_threads_reach_only_those_who_were_refused(
    runner: ScriptRunner,
) -> None:
    def ask(thread: int) -> bool:
        for number in range(ROUNDS):
            with pytest.raises(redis.ResponseError, match="not today"):
                runner.run(REFUSE, [], [])
            if not told(runner, f"{thread}-{number}"):
                return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask, range(4)))


def test_hundreds_of_connections_one_after_the_other_are_no_problem(runner: ScriptRunner) -> None:
    for _ in range(120):  # a pool of redis-py makes a hundred
        with interrupted("EVALSHA"):
            runner.run(TELL, [], [])

    assert told(runner, "mine")


def test_closing_closes_all_that_are_idle(runner: ScriptRunner, url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: runner.run(TARRY, [], [50_000]), range(8)))
    assert connections(url)

    runner.close()

    poll_until(lambda: not connections(url), 10, what="the connections to be closed")


def test_a_runner_that_was_closed_connects_anew(runner: ScriptRunner) -> None:
    runner.run(TELL, [], [])

    runner.close()

    assert told(runner, "mine")


# --- where to connect


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://host", redis.Connection),
        ("rediss://host", redis.SSLConnection),
        ("unix:///socket", redis.UnixDomainSocketConnection),
    ],
)
def test_every_kind_of_url_has_its_own_connection(url: str, kind: type) -> None:
    with running(url) as runner:
        assert isinstance(runner._make(), kind)


def test_a_socket_file_will_do(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(extra_config={"unixsocket": str(path)}), running(f"unix://{path}") as runner:
        assert told(runner, "mine")


def test_password_and_database_are_those_of_the_url() -> None:
    with RedisServer(extra_config={"requirepass": "open-sesame"}) as server:
        url = server.url(db=3).replace("//", "//:open-sesame@")
        with running(url) as runner:
            runner.run(SET, ["a"], ["1"])

        with redis_client(url) as client:
            assert client.info("keyspace").keys() == {"db3"}


def test_a_wrong_password_is_an_error_of_redis() -> None:
    with RedisServer(extra_config={"requirepass": "open-sesame"}) as server:
        url = server.url().replace("//", "//:barley@")
        with running(url) as runner, pytest.raises(redis.AuthenticationError):
            runner.run(TELL, [], [])


# --- a master that is a replica by now


@contextmanager
def demoted(idle: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    """Give the URL of a replica, and what has connections to it from better days."""
    with RedisServer() as server:
        url = f"{server.url()}?client_name={NAME}"
        kept = idle(url)
        with redis_client(server.url()) as client:
            client.replicaof(HOST, 1)
            assert len(connections(url)) == 4
        yield url, kept


def test_a_runner_leaves_a_master_that_is_none_any_more() -> None:
    with ExitStack() as stack:

        def idle(url: str) -> ScriptRunner:
            runner = stack.enter_context(running(url))
            for connection in [runner._borrow() for _ in range(4)]:
                connection.connect()
                runner._idle.append((connection, time.monotonic()))
            return runner

        with demoted(idle) as (url, runner):
            with pytest.raises(redis.exceptions.ReadOnlyError):
                runner.run_all(Call(SET, ["a"], ["1"]), Call(TELL, [], []))

            poll_until(lambda: not connections(url), 30, what="all connections to be closed")


def test_so_does_a_client() -> None:
    with ExitStack() as stack:

        def idle(url: str) -> redis.Redis:
            client = stack.enter_context(closing(connect_redis(url, 10)))
            pool = client.connection_pool
            for connection in [pool.get_connection() for _ in range(4)]:
                pool.release(connection)
            return client

        with demoted(idle) as (url, client):
            with pytest.raises(redis.exceptions.ReadOnlyError):
                client.set("a", "1")

            poll_until(lambda: not connections(url), 30, what="all connections to be closed")

"""`mosaic-sessions top`: how it goes, live, on a plain terminal."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import click
from rich.console import Console

from worker.celery_support.queue_heads import Head
from worker.cli import output
from worker.cli.common import services
from worker.cli.plot import bars
from worker.maintenance.last_runs import Run
from worker.operations.health import Health
from worker.operations.live_health import MOMENTS, Live
from worker.operations.views import DeliveryCounts
from worker.traffic import BudgetLeft, Lane

_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_NARROWEST: Final = 60
_WIDTH_IN_A_PIPE: Final = 100


@click.command()
@click.option(
    "--every", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, metavar="SECONDS"
)
@click.option("--once", is_flag=True, help="Print one frame and end.")
def top(*, every: float, once: bool) -> None:
    """Show what happens, what waits and what is wrong, until Ctrl-C.

    Plots go back thirty looks; those of queues begin when it is started. A terminal that knows no
    cursor, or a pipe, gets frame after frame.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    live = Live(services(), every)
    with suppress(KeyboardInterrupt):
        while True:
            frame = _frame(live.look(), live, ascii_only=not _has_blocks(console))
            _show(console, list(frame))
            if once:
                return
            time.sleep(every)


def _has_blocks(console: Console) -> bool:
    return console.encoding.lower().startswith("utf") and not console.is_dumb_terminal


def _show(console: Console, lines: Sequence[str]) -> None:
    is_live = console.is_terminal and not console.is_dumb_terminal
    # Not the console's, which takes every dumb terminal for 80 wide.
    size = shutil.get_terminal_size()
    width = max(_NARROWEST, size.columns if console.is_terminal else _WIDTH_IN_A_PIPE)
    fitting = [part for line in lines for part in _fitted(line, width)]
    if is_live:  # what is below the last row would push the first one out
        drawn = "".join(f"{line}{_CLEAR_LINE}\n" for line in fitting[: size.lines - 1])
        click.echo(f"{_HOME}{drawn}{_CLEAR_BELOW}", nl=False)
    else:
        click.echo("\n".join(fitting) + "\n")


def _fitted(line: str, width: int) -> Sequence[str]:
    """Return *line* in lines that are not wider: one too wide would push the other lines about."""
    if len(line) <= width:
        return [line.rstrip()]
    return textwrap.wrap(line, width, subsequent_indent="    ")


def _frame(health: Health, live: Live, *, ascii_only: bool) -> Iterator[str]:
    def plot(values: Sequence[float]) -> str:
        return bars(values, MOMENTS, ascii_only=ascii_only)

    yield f"mosaic-sessions top   {output.shown(health.asked_at)}   {_workers(health)}"
    for problem in health.problems:
        yield f"Problem: {output.shown(problem)}"
    if not health.problems:
        yield "No problem is known."
    yield ""
    yield f"{'a second':<24}{'now':>8}  lately"
    for name, seen in live.per_second.items():
        now = f"{seen[-1]:.1f}" if seen else "-"
        yield f"{name:<24}{now:>8}  {plot(list(seen))}"
    yield ""
    yield f"{'waiting in queue':<24}{'now':>8}  {'lately':<{MOMENTS}}  {'oldest':>7}"
    for queue, seen in live.waiting.items():
        backlog = health.backlog
        head = None if backlog is None else backlog.heads.get(queue)
        count = "-" if backlog is None else str(backlog.waiting.get(queue, "-"))
        yield f"{queue:<24}{count:>8}  {plot(list(seen))}  {_age(head, health):>7}"
    for one in health.notice_queues or ():
        name, waits = output.shown(f"{one.queue} ({one.app_id})"), one.waiting
        empty = " " * MOMENTS
        yield f"{name:<24}{waits.count:>8}  {empty}  {_age(waits.head, health):>7}"
    yield ""
    yield f"{'to tell':<24}{'pending':>8}{'failing':>9}{'given up':>10}{'oldest':>9}"
    yield from _deliveries(health)
    yield ""
    yield "   ".join(_rest(health))
    if health.traffic is not None:
        yield f"calls left: {', '.join(_calls_left(health.traffic.budgets))}"


def _workers(health: Health) -> str:
    if health.workers is None:
        return "workers unknown"
    slots = sum(int(w["slots"]) for w in health.workers if isinstance(w.get("slots"), int))
    return f"workers {len(health.workers)}, slots {slots}"


def _age(head: Head | None, health: Health) -> str:
    age = None if head is None else head.age(health.asked_at)
    return "-" if age is None else _seconds(age)


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.0f} s"


def _deliveries(health: Health) -> Iterator[str]:
    store = health.store
    if store is None:
        yield "unknown"
        return
    yield _owed("Mosaic", store.logouts, store.failed_logouts)
    yield _owed("apps", store.notices, store.failed_notices)


def _owed(receiver: str, counts: DeliveryCounts, given_up: int) -> str:
    oldest = _seconds(counts.oldest_pending_seconds)
    return f"{receiver:<24}{counts.pending:>8}{counts.failing:>9}{given_up:>10}{oldest:>9}"


def _rest(health: Health) -> Iterator[str]:
    yield f"live sessions {health.store.live_sessions if health.store else 'unknown'}"
    taken = None if health.backlog is None else health.backlog.unacknowledged
    yield f"taken, not done {'unknown' if taken is None else taken}"
    runs = health.last_runs or {}
    names = {Run.SWEEP: "sweep", Run.EXPIRE_SESSIONS: "expiry", Run.PURGE_HISTORY: "purge"}
    for run, name in names.items():
        age = runs.get(run)
        yield f"{name} {'unknown' if age is None else f'{age:.0f} s ago'}"


def _calls_left(budgets: Iterable[BudgetLeft]) -> Iterator[str]:
    """Return the scarcest of each lane."""
    left: dict[Lane, float] = {}
    for budget in budgets:
        left[budget.lane] = min(budget.left_share, left.get(budget.lane, 1.0))
    for lane, share in left.items():
        yield f"{lane} {share:.0%}"

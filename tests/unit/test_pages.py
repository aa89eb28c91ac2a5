"""What a page names is there: headings, files, commands with their options, verbs, metrics, names.

What the program itself tells operators to type is held to the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import click
import pytest

from worker.cli.root import commands
from worker.settings.environment import variable_name
from worker.settings.model import Settings

ROOT: Final = Path(__file__).parents[2]
PLACES: Final = ("*.md", "docs/*.md", "client/*.md", "tests/*.md", "benchmarks/*.md")
PAGES: Final = sorted(path for place in PLACES for path in ROOT.glob(place))
CHANGES: Final = ROOT / "CHANGELOG.md"  # it also names what is gone
PROGRAM: Final = sorted(
    path
    for place in ("worker/**/*.py", "sandbox/*.py", "examples/*.py", "deploy/**/*.*", "docs/*.yml")
    for path in ROOT.glob(place)
    if path.suffix not in {".pyc", ".json"}
)
FOLDERS: Final = (
    *("worker", "models", "migrations", "client", "simulator", "sandbox", "tests", "benchmarks"),
    *("examples", "requirements", "docs", "deploy", ".ci"),
)
# Files that a reader is told to write.
MADE: Final = frozenset({"deploy/secrets"})
# Words of Celery, RabbitMQ and OpenID Connect that the worker has no need to say.
FOREIGN: Final = frozenset(
    {"link_error", "max_message_size", "private_key_jwt", "rate_limit", "TestClient"}
)


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    """What stands in ticks in the text of a page."""
    return re.findall(r"`([^`\n]+)`", without_code(page.read_text(encoding="utf-8")))


@cache
def anchors(page: Path) -> set[str]:
    """What a link may lead to within a page, as GitHub names its headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", without_code(page.read_text("utf-8")), re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.append(name if name not in found else f"{name}-{found.count(name)}")
    return set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\((?!http|\?)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        to = (page.parent / name).resolve() if name else page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_of_ours_that_is_named_is_there(page: Path) -> None:
    named = [span for span in spans(page) if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", span)]
    ours = [name for name in named if name.partition("/")[0] in FOLDERS and name not in MADE]

    assert [name for name in ours if not (ROOT / name).exists()] == []


def written_commands(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """The words and the options behind each `mosaic-sessions` that is followed by a word."""
    for line in text.replace("\\\n", " ").splitlines():
        for typed in re.split(r"\bmosaic-sessions (?=--as |--debug |[a-z])", line)[1:]:
            yield parts(re.split(r"[`'\"|;&>)]|  #|mosaic-sessions", typed)[0])


def short_commands(page: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Likewise of those that a page names without the program: `keys rotate`."""
    groups = {name for name, found in commands.commands.items() if isinstance(found, click.Group)}
    for span in spans(page):
        if re.match(rf"({'|'.join(groups)}) [a-z]", span):
            yield parts(span)


def parts(typed: str) -> tuple[list[str], list[str]]:
    named = re.sub(r"--as \S+|--debug", "", typed).split()
    return [word.rstrip(",.:") for word in named], re.findall(r"(?<!\S)--[a-z][a-z-]*", typed)


def what_is_wrong(words: list[str], options: list[str]) -> str | None:
    """Follow *words* down the groups; say what is none of ours."""
    found: click.Command = commands
    known = {"--help"} | spellings(commands)
    for word in words:
        typed = re.match(r"[a-z][a-z|-]*", word)  # `db upgrade|check`, `logouts list{more}`
        if typed is None or not isinstance(found, click.Group):
            break
        names = typed[0].split("|")
        for name in names:
            if name not in found.commands:
                return f"no command {name}"
        found = found.commands[names[0]]
        known |= spellings(found)
    return next((f"no option {option}" for option in options if option not in known), None)


def spellings(command: click.Command) -> set[str]:
    return {
        spelt
        for parameter in command.params
        for spelt in (*parameter.opts, *parameter.secondary_opts)
    }


@pytest.mark.parametrize("path", [*PAGES, *PROGRAM], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_named_is_one_with_its_options(path: Path) -> None:
    told = list(written_commands(path.read_text(encoding="utf-8")))
    if path in PAGES and path != CHANGES:
        told += short_commands(path)

    assert [
        (words, wrong) for words, options in told if (wrong := what_is_wrong(words, options))
    ] == []


def test_a_command_that_is_none_would_be_seen() -> None:
    text = "see `mosaic-sessions keys turn` or\nmosaic-sessions --as ada prune --all  # --json\n"
    told = list(written_commands(text))

    assert [what_is_wrong(*typed) for typed in told] == ["no command turn", "no option --all"]
    everywhere = [
        path for path in (*PAGES, *PROGRAM) for _ in written_commands(path.read_text("utf-8"))
    ]
    assert len(everywhere) > 100


def test_every_verb_of_make_that_is_named_is_one() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    typed = r"(?:`|^)make ([a-z-]+)"
    named = {
        verb for page in PAGES for verb in re.findall(typed, page.read_text("utf-8"), re.MULTILINE)
    }

    assert len(named) > 10
    assert named - verbs == set()


def test_every_metric_and_every_alert_that_is_named_is_one() -> None:
    metrics = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")  # held to the meters
    alerts = (ROOT / "docs" / "alerts.yml").read_text(encoding="utf-8")
    told = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    known = set(re.findall(r"mosaic_sessions_\w+[a-z]", metrics))
    named = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in re.findall(r"\bmosaic_sessions_\w+[a-z]", told + alerts)
    }

    assert len(named) > 20
    assert named - known == set()
    assert set(re.findall(r"\bMosaicSessions[A-Z]\w+", told)) <= set(re.findall(r"\w+", alerts))


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        if folder != "docs":
            yield from (ROOT / folder).rglob("*")
    yield from (
        ROOT / name for name in ("celeryconfig.py", "Makefile", "pyproject.toml", "docs/alerts.yml")
    )


def test_every_name_in_ticks_is_one_that_the_sources_have() -> None:
    known = {variable_name(field) for field in Settings.model_fields}
    known |= {f"{name}_FILE" for name in known} | FOREIGN
    for path in sources():
        known.add(path.stem)
        is_text = path.suffix not in {".md", ".pyc", ".png", ".svg", ".json"}
        if (
            path.is_file()
            and is_text
            and path != Path(__file__)
            and "node_modules" not in path.parts
        ):
            known |= set(re.findall(r"\w+", path.read_text(encoding="utf-8", errors="replace")))
    metrics = re.findall(r"\w+", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"))
    known |= {name for name in metrics if name.startswith("mosaic_sessions_")}

    named = {
        name
        for page in PAGES
        if page != CHANGES
        for span in spans(page)
        for name in re.findall(r"(?<![\w…])[A-Za-z]\w*_\w+|(?<!\w)[a-zA-Z]+[a-z][A-Z]\w*", span)
    }

    assert len(named) > 300
    assert sorted(named - known) == []

"""README and docs say what is so."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from session_client.contract import Task, Verdict
from worker.requests.commands import COMMANDS
from worker.settings.environment import variable_name
from worker.settings.model import Settings
from worker.settings.page import descriptions, page
from worker.tasks import logouts, maintenance, notices

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
APPS = (ROOT / "docs" / "apps.md").read_text(encoding="utf-8")
PLACES = ("*.md", "docs/*.md", "client/*.md", "tests/*.md", "benchmarks/*.md")
DOCUMENTS = sorted(path for place in PLACES for path in ROOT.glob(place))


def test_the_page_of_settings_is_as_the_settings_are() -> None:
    assert page() == SETTINGS, "python -m worker.settings.page > docs/settings.md"


def test_the_page_says_how_many_settings_must_be_set() -> None:
    required = [name for name, field in Settings.model_fields.items() if field.is_required()]

    assert required == ["encryption_keys", "lookup_key"]
    assert "Two must be set: the keys" in SETTINGS


def test_every_setting_says_what_it_sets() -> None:
    said = descriptions()

    assert said.keys() == Settings.model_fields.keys()
    assert [field for field, text in said.items() if not text.endswith((".", "`"))] == []


def test_no_setting_is_documented_that_does_not_exist() -> None:
    documented = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"MOSAIC_SESSIONS_[A-Z_]+[A-Z]", document.read_text("utf-8"))
    }

    known = set(map(variable_name, Settings.model_fields))
    assert {name.removesuffix("_FILE") for name in documented} <= known


@pytest.mark.parametrize(
    "task",
    [
        *Task,
        logouts.END_AT_IDP,
        logouts.END_USER_AT_IDP,
        logouts.END_ORPHANS,
        notices.DELIVER,
        maintenance.SWEEP,
        maintenance.EXPIRE_SESSIONS,
        maintenance.PURGE_HISTORY,
    ],
)
def test_every_task_is_in_the_table(task: str) -> None:
    assert task in APPS or f".{task.rpartition('.')[2]}" in APPS


@pytest.mark.parametrize("task", Task)
def test_the_table_names_each_field_of_a_task(task: Task) -> None:
    (row,) = re.findall(rf"^\| `{re.escape(task)}` \|(.*)$", APPS, re.MULTILINE)
    named = re.findall(r"`(\w+)\??`", row.split("|")[1])

    assert set(named) == set(COMMANDS[task].model_fields)


def test_every_variable_that_a_client_reads_is_on_the_page() -> None:
    sources = (ROOT / "client" / "session_client").rglob("*.py")
    texts = [path.read_text(encoding="utf-8") for path in sources]
    read = {name for text in texts for name in re.findall(r'"(SESSION_[A-Z_]+)', text)}

    assert len(read) > 6
    assert {name for name in read if f"`{name}`" not in APPS} == set()


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_is_explained(verdict: Verdict) -> None:
    assert f"`{verdict}`" in APPS


def test_every_verb_of_the_readme_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    verbs = set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))

    assert verbs >= {"demo", "dev", "test"}
    assert all(re.search(rf"^{verb}:.*## ", makefile, re.MULTILINE) for verb in verbs)


def test_the_first_page_is_one_to_read_in_a_few_minutes() -> None:
    assert len(README.split()) < 800


def test_the_picture_is_drawn_for_light_and_for_dark_pages() -> None:
    (picture,) = re.findall(r"^!\[[^]]+\]\(([^)]+\.svg)\)", README, re.MULTILINE)
    drawing = ET.parse(ROOT / picture)  # noqa: S314 - ours

    assert drawing.getroot().tag.endswith("svg")
    assert "prefers-color-scheme: dark" in (ROOT / picture).read_text(encoding="utf-8")


def pictures() -> list[tuple[Path, Path]]:
    """Each picture that a page shows, with the page."""
    return [
        (document, document.parent / found)
        for document in DOCUMENTS
        for found in re.findall(
            r"!\[[^]]+\]\(([^)]+\.(?:svg|png))\)", document.read_text("utf-8"), re.DOTALL
        )
    ]


def test_every_picture_that_a_page_shows_is_there_and_none_is_shown_nowhere() -> None:
    shown = {picture.resolve() for _, picture in pictures()}

    assert shown == set((ROOT / "docs" / "images").iterdir())


def test_every_drawing_says_what_it_shows_and_can_be_read_in_the_dark() -> None:
    for _, path in pictures():
        if path.suffix == ".svg":
            drawing = ET.parse(path).getroot()  # noqa: S314 - ours
            names = {element.tag.rpartition("}")[2] for element in drawing.iter()}
            assert {"title", "desc"} <= names, path
            assert "prefers-color-scheme: dark" in path.read_text("utf-8"), path

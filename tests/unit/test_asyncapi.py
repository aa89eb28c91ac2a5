"""`docs/asyncapi.json` is what its generator writes, and holds together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from session_client.contract import LOGOUT_NOTICE_TASK, QUEUE_OF, Task, Verdict
from worker.requests.asyncapi import document

PAGE = Path(__file__).parents[2] / "docs" / "asyncapi.json"
COMMAND = "python -m worker.requests.asyncapi > docs/asyncapi.json"


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (text for name, text in value.items() if name == "$ref")
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)


def resolve(found: Any, reference: str) -> Any:
    for name in reference.removeprefix("#/").split("/"):
        found = found[name.replace("~1", "/")]
    return found


def test_the_page_is_up_to_date() -> None:
    assert json.loads(PAGE.read_text("utf-8")) == document(), f"run `{COMMAND}`"


def test_every_reference_leads_somewhere() -> None:
    page = document()
    for reference in references(page):
        assert resolve(page, reference), reference


def test_every_task_is_an_operation_on_its_queue_with_a_sealed_content_and_an_answer() -> None:
    page = document()
    for task, queue in QUEUE_OF.items():
        operation = page["operations"][task.value]
        sent = resolve(page, resolve(page, operation["messages"][0]["$ref"])["$ref"])
        said = resolve(page, sent["x-sealed-content"]["$ref"])
        assert operation["channel"] == {"$ref": f"#/channels/{queue}"}
        assert said["properties"]["task"] == {"const": task.value}
        assert f"{task}.answer" in page["components"]["schemas"]
    assert page["operations"][LOGOUT_NOTICE_TASK]["action"] == "receive"


def test_a_login_s_fields_are_those_of_the_table_and_secrets_are_marked() -> None:
    fields = {
        one["title"]: one for one in document()["components"]["schemas"]["LoginFields"]["anyOf"]
    }
    password = fields["password authenticate"]
    assert password["required"] == ["username", "password"]
    assert password["properties"]["password"]["writeOnly"] is True
    assert "writeOnly" not in password["properties"]["username"]


def test_what_an_answer_holds_goes_by_its_verdict() -> None:
    page = document()
    answer = page["components"]["schemas"][f"{Task.SILENT_AUTH}.answer"]
    by_verdict = {
        one["if"]["properties"]["verdict"]["const"]: one["then"]["properties"]["data"]["$ref"]
        for one in answer["allOf"]
    }
    assert by_verdict[Verdict.AUTHENTICATED].endswith("/SignedIn")
    assert by_verdict[Verdict.INTERACTION_REQUIRED].endswith("/StepUp")

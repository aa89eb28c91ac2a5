"""A request's body and query, read once, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from simulator.idp.contract import Published

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

Read = tuple[dict[str, Any], list[str]]


def read_request(
    published: Published, content_type: str, body: bytes, query: Mapping[str, str]
) -> Read:
    """The fields of a request, and a sentence for each thing wrong with it."""
    if published.request is None:
        return {}, []
    fields, found = _read(published, content_type, body, query)
    return fields, found or published.request_complaints(fields)


def _read(published: Published, content_type: str, body: bytes, query: Mapping[str, str]) -> Read:
    if published.method == "GET":
        return dict(query), []
    wanted = FORM if published.is_form else JSON
    if content_type.partition(";")[0].strip().lower() != wanted:
        return {}, [f"content type must be {wanted}"]
    return _read_form(body) if published.is_form else _read_json(body)


def _read_json(body: bytes) -> Read:
    try:
        value = json.loads(body)
    except ValueError:
        return {}, ["body is not JSON"]
    return (value, []) if isinstance(value, dict) else ({}, ["body must be an object"])


def _read_form(body: bytes) -> Read:
    pairs = parse_qsl(body.decode("latin-1"), keep_blank_values=True)
    form = dict(pairs)
    return form, ["a parameter is repeated"] if len(form) < len(pairs) else []

"""Adding the app `shop` by the verb, and what came of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from models import App
from session_client import requests
from session_client.keys import AppKey as ClientKey
from tests.integration.cli.cli_rig import run
from tests.stage import Stage

SECRET = "client-secret-canary-09d1"
ADD = ("apps", "add", "shop", "--client-id", "client-shop", "--client-secret-file", "-")


def add(*arguments: str) -> ClientKey:
    printed = run(*ADD, "--quiet", *arguments, stdin=f"{SECRET}\n").stdout
    return ClientKey.parse(printed)


def row(stage: Stage, app_id: str = "shop") -> Any:
    with stage.services.store.read() as connection:
        return connection.execute(select(App.__table__).where(App.app_id == app_id)).one()


def ask_with(stage: Stage, key: ClientKey) -> Any:
    stage.keys["shop"] = key
    stage.reread_apps()
    return stage.ask("shop", requests.Status(user_id="ada"))

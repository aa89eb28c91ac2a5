"""The code of docs/first-afternoon.md runs as it stands there, with its own imports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from session_client import AppKey
from session_client.testing import SessionWorker, session_worker
from session_client.web import Options
from session_client.web.options import Settings
from tests.asgi import AsgiTransport

__all__ = ["session_worker"]

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "first-afternoon.md").read_text(encoding="utf-8")
FLASK, FASTAPI, DJANGO_SETTINGS, DJANGO_VIEWS, A_TEST, A_PLAN = re.findall(
    r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    for name, value in {
        "SESSION_BROKER_URL": "redis://nobody",
        "SESSION_APP_ID": "forum",
        "SESSION_APP_KEY": AppKey.generate().text(),
        "SESSION_MARKS_URL": redis_url,
    }.items():
        monkeypatch.setenv(name, value)


def run(sample: str, **names: Any) -> dict[str, Any]:
    names |= {"__name__": "sample"}
    exec(compile(sample, "docs", "exec"), names)  # noqa: S102 - it is ours
    return names


def test_the_flask_app_and_its_test(session_worker: SessionWorker) -> None:
    app = run(FLASK)
    client = app["app"].test_client()
    session_worker.add_user("ada", "secret")
    form = {"user": "ada", "password": "secret"}

    assert client.post("/login?next=/x", data=form, headers=session_worker.form).location == "/x"
    assert client.post("/logout", headers=session_worker.form).location == "/"
    wrong = client.post("/login", data=form | {"password": ""}, headers=session_worker.form)
    assert wrong.status_code == 403
    run(A_TEST, sessions=app["sessions"])["test_who_is_in"](session_worker, client)


def test_what_the_pretend_worker_does_not_know_is_planned(session_worker: SessionWorker) -> None:
    run(A_PLAN)["test_a_login_of_our_own_is_registered"](session_worker)


def test_the_fastapi_app(session_worker: SessionWorker) -> None:
    app = run(FASTAPI)
    session_worker.add_user("ada", "secret")
    sent = {"user": "ada", "password": "secret"}
    headers = session_worker.script

    transport = AsgiTransport(app["app"])
    address = "https://forum.apps.example.com"
    with httpx.Client(transport=transport, base_url=address) as client:
        nobody = client.get("/", headers=headers)
        wrong = client.post("/login", json=sent | {"password": "x"}, headers=headers)
        right = client.post("/login", json=sent, headers=headers)
        somebody = client.get("/", headers=headers)
        out = client.post("/logout", headers=headers)
        gone = client.get("/", headers=headers)
    transport.stop()

    codes = [answer.status_code for answer in (nobody, wrong, right, somebody, out, gone)]
    assert codes == [401, 403, 200, 200, 204, 401]
    assert somebody.json() == {"hello": "ada"}


DJANGO = """
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="s" * 32, ROOT_URLCONF="urls", ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    **{name: value for name, value in vars(__import__("given")).items() if name.isupper()},
)
django.setup()
from django.core.management import call_command
from django.test import Client
call_command("migrate", verbosity=0)
call_command("check")
import pytest
from session_client.testing import SessionWorker, _put_behind_all_clients
worker = SessionWorker()
with pytest.MonkeyPatch.context() as patch:
    _put_behind_all_clients(worker, patch)
    worker.add_user("ada", "secret")
    client = Client(headers=worker.form)
    form = {"user": "ada", "password": "secret"}
    print(client.post("/login?next=/x", form, secure=True).headers["Location"])
    print(client.get("/", secure=True).content.decode())
    print(client.get("/async", secure=True).content.decode())
    print(client.post("/logout", secure=True).status_code)
    print(client.get("/", secure=True).headers["Location"])
"""
URLS = """
from django.http import HttpResponse
from django.urls import include, path
from session_client.django import log_out, signed_in, who_is_in
from views import home, login
@signed_in
async def slow(request):
    return HttpResponse(who_is_in(request).user_id)
urlpatterns = [
    path("", home), path("async", slow), path("login", login), path("logout", log_out),
    path("", include("session_client.django.urls")),
]
"""


def test_the_django_app(tmp_path: Path) -> None:
    """In a process of its own: Django is configured once in each."""
    for name, text in {
        "given": DJANGO_SETTINGS,
        "views": DJANGO_VIEWS,
        "urls": URLS,
        "main": DJANGO,
    }.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.stdout.splitlines()[-5:] == ["/x", "Hello ada", "ada", "303", "/login?next=/"], (
        done.stdout + done.stderr
    )


def test_the_page_names_each_option_with_its_default() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| ([^|]+) \|", PAGE, re.MULTILINE)
    named = {name for names, _ in rows for name in re.findall(r"`(\w+)`", names)}

    assert named == set(Settings.__annotations__) - {"cookie"}
    defaults = dict(rows)["`recheck`, `grace`"]
    assert defaults == f"{Options().recheck:g}, {Options().grace:g}"

"""The bank of `examples/web`, set up once in each process: Django takes settings only once."""

from __future__ import annotations

import atexit
import importlib
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

_VALUES = {
    "BANK_SECRET": "b" * 32,
    "BANK_DOMAIN": "apps.example.com",
    "DJANGO_SETTINGS_MODULE": "examples.web.bank.settings",
}


def bank() -> Any:
    """Return its WSGI application, for the client that the environment says by now."""
    application = _set_up()
    # What was read for an earlier test's worker is forgotten.
    importlib.import_module("session_client.django.conf").configured.cache_clear()
    importlib.import_module("session_client.django.conf").configured()
    return application


@cache
def _set_up() -> Any:
    folder = tempfile.TemporaryDirectory(prefix="bank-")
    atexit.register(folder.cleanup)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**_VALUES, "BANK_DB": str(Path(folder.name) / "bank.db")}.items():
            patch.setenv(name, value)
        importlib.import_module("django").setup()
        call_command = importlib.import_module("django.core.management").call_command
        call_command("migrate", verbosity=0)
        call_command("check")
        return importlib.import_module("django.core.wsgi").get_wsgi_application()

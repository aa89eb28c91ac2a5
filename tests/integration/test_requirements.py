"""What a production machine installs is all that the product imports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
OURS = {"mosaic-session-worker", "mosaic-session-client"}
# Loaded by site-packages itself, by coverage, or by Celery, redis-py and SQLAlchemy only where they
# are there.
BYSTANDERS = {"setuptools", "coverage", "pip", "psutil", "opentelemetry-api"}
BYSTANDERS |= {"django", "greenlet", "pyyaml", "attrs"}

IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys
import celery.apps.beat, celery.apps.worker, celery.bin.celery, celery.worker.consumer
import kombu.transport.redis, alembic.command, psycopg, sqlalchemy.dialects.postgresql.psycopg
import worker, session_client, models, migrations.target
# A framework, or pytest, is an extra of the client: no worker needs it.
EXTRAS = ["session_client." + name for name in ("flask", "starlette", "django", "testing")]
def load(package):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if module.name not in EXTRAS:
            loaded = importlib.import_module(module.name)
            if module.ispkg:
                load(loaded)
for package in (worker, session_client, models):
    load(package)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> set[str]:
    text = (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8")
    return {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}


def test_everything_the_product_imports_is_in_the_locked_requirements() -> None:
    environment = {
        "MOSAIC_SESSIONS_ENCRYPTION_KEYS": "k1:" + "A" * 43 + "=",
        "MOSAIC_SESSIONS_LOOKUP_KEY": "A" * 43 + "=",
    }

    printed = subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", IMPORT_EVERYTHING],
        env=environment,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    distributions = packages_distributions()
    needed = {
        normal(name) for module in json.loads(printed) for name in distributions.get(module, [])
    }
    assert needed >= {"celery", "kombu", "redis", "packaging"}
    assert needed - locked() - OURS - BYSTANDERS == set()


def test_no_lock_file_names_a_registry() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        assert "://" not in path.read_text(encoding="utf-8")


def test_no_installed_package_asks_for_another_by_an_extra() -> None:
    """Python 3.11's own pip would look for that one's newest release, not for the locked one.

    On the day there is a newer one, nothing can be installed: its hash is not in the lock.
    """
    asked = [
        f"{package.name}: {requirement}"
        for package in distributions()
        if normal(package.name) not in OURS
        for requirement in map(Requirement, package.requires or [])
        if requirement.extras
        and (requirement.marker is None or requirement.marker.evaluate({"extra": ""}))
    ]

    assert asked == []

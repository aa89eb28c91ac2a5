"""`make matrix`: the client beside the oldest, some and the newest of what apps have.

Each row is a virtual environment with the client and pinned libraries, in which `client_smoke` runs
against a real Redis, plain and behind TLS. Where web frameworks are among them `framework_smoke`
runs in its place, with the testing kit. The worker's row is `make demo` in a copy, with the newest
Python. A row whose Python is not on this machine takes another, and says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sandbox.ports import HOST
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from tests.certificates import make_certificate, server_context
from tests.integration.client.client_rig import KEY, Responder

ROOT = Path(__file__).parent.parent
SMOKE = ROOT / "tests" / "client_smoke.py"
WEB_SMOKE = ROOT / "tests" / "framework_smoke.py"
WORKER = "worker"
# Python, and what stands beside the client; the last row takes the newest of everything.
WEB = ("pytest", "httpx<0.28")  # what the smoke of the frameworks itself needs
ROWS: dict[str, tuple[str, ...]] = {
    "oldest": ("3.10", "redis==4.6.0", "cryptography==38.0.4"),
    "celery 5.3": ("3.10", "redis==5.0.8", "hiredis<3", "cryptography==42.0.8", "celery==5.3.6"),
    "celery 5.6": ("3.12", "redis==6.4.0", "hiredis", "cryptography", "celery==5.6.0"),
    "newest": ("3.14 or 3.13", "redis", "hiredis", "cryptography", "celery"),
    # The floors that client/pyproject.toml names. Flask 2.3 asks for any Werkzeug, and runs with
    # those of its own time.
    "oldest web": (
        "3.10", "flask==2.3.0", "werkzeug<3", "starlette==0.37.0", "itsdangerous==2.1.2",
        "django==4.2", "redis==4.6.0", "cryptography==38.0.4", *WEB,
    ),
    # The oldest FastAPI that takes such a Starlette.
    "oldest fastapi": (
        "3.10", "fastapi==0.110.1", "starlette==0.37.2", "itsdangerous==2.1.2", "flask", "django",
        *WEB,
    ),
    "newest web": ("3.14 or 3.13", "flask", "fastapi", "itsdangerous", "django", *WEB),
    WORKER: ("3.14 or 3.13", "make demo"),
}  # fmt: skip
# What this machine made, and the worker's row makes anew.
NOT_COPIED = shutil.ignore_patterns(".*", "var", "node_modules", "*.egg-info", "__pycache__")


def main() -> int:
    """Run all rows, two at a time; 0 when all that could be run went well."""
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        places(Path(folder)) as found,
        ThreadPoolExecutor(2) as threads,
    ):
        done = list(threads.map(lambda name: run(name, Path(folder), found), ROWS))
    for name, result in zip(ROWS, done, strict=True):
        print(f"{name:>14}  {result}")  # noqa: T201 - it is what it is for
    print(f"{time.monotonic() - started:.0f} s")  # noqa: T201
    return 0 if all(result.startswith("good") for result in done) else 1


def run(name: str, folder: Path, found: dict[str, str]) -> str:
    """Return how the row went."""
    wanted, *libraries = ROWS[name]
    found_pythons = {version: interpreter(version) for version in wanted.split(" or ")}
    python = next(filter(None, found_pythons.values()), None)
    missing = [version for version, path in found_pythons.items() if path is None]
    shown = version_of(python or sys.executable) + "".join(f", no {each} here" for each in missing)
    home = folder / name.replace(" ", "-")
    environment = home / "bin" / "python"
    smoke: list[str | Path] = [
        "-W",
        "error",
        SMOKE,
        json.dumps(found | celery(libraries)),
        KEY.text(),
    ]
    if set(WEB) <= set(libraries):
        # A copy: beside ours pytest would read the settings of the tests that need all of dev.txt.
        alone = made(folder / f"{home.name}-smoke")
        smoke = ["-W", "error", "-m", "pytest", "-q", "-p", "session_client.testing",
                 "-p", "no:cacheprovider", shutil.copy(WEB_SMOKE, alone)]  # fmt: skip
    steps: tuple[list[str | Path], ...] = (
        [python or sys.executable, "-m", "venv", home],
        [environment, "-m", "pip", "install", "-q", "--disable-pip-version-check",
         ROOT / "client", *libraries],
        [environment, *smoke],
    )  # fmt: skip
    if name == WORKER:
        shutil.copytree(ROOT, home, ignore=NOT_COPIED)
        steps = (["make", "-C", home, "demo", f"PYTHON={python or sys.executable}"],)
    for step in steps:
        done = subprocess.run(  # noqa: S603 - our own commands
            step, capture_output=True, text=True, timeout=900, check=False, cwd=folder
        )
        # A smoke says nothing, unless something warns; pip may well say something.
        if done.returncode or (step[0] == environment and step is steps[-1] and done.stderr):
            return f"{step[1:4]} failed:\n{done.stdout}{done.stderr}"
    return f"good: {shown}, {', '.join(libraries)}"


def celery(libraries: list[str]) -> dict[str, str]:
    """Whether Celery is there for a broker that is no Redis."""
    return {"celery": "yes"} if any(each.startswith("celery") for each in libraries) else {}


def version_of(python: str) -> str:
    """Return which Python that is."""
    told = "import sys; print(*sys.version_info[:2], sep='.')"
    return subprocess.check_output([python, "-c", told], text=True).strip()  # noqa: S603


def interpreter(version: str) -> str | None:
    """Return a Python of that *version*, if this machine has one that runs."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    homes = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for found in (shutil.which(f"python{version}"), *map(str, homes)):
        if found is not None and not subprocess.call(  # noqa: S603
            [found, "-c", "import venv"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ):
            return found
    return None


@contextmanager
def places(folder: Path) -> Iterator[dict[str, str]]:
    """Redis in each way that the smoke needs it."""
    right, wrong = (make_certificate(made(folder / name), name) for name in (HOST, "localhost"))
    with ExitStack() as exits:
        server, lonely, mute = (exits.enter_context(RedisServer()) for _ in range(3))
        exits.enter_context(Responder(server.url()))
        mute.freeze()
        exits.callback(mute.thaw)
        doors = [
            exits.enter_context(FaultProxy(HOST, server.port, tls=server_context(certificate)))
            for certificate in (right, wrong)
        ]
        tls, wrong_host = (
            f"rediss://{HOST}:{door.port}/0?ssl_ca_certs={certificate}"
            for door, certificate in zip(doors, (right, wrong), strict=True)
        )
        yield {
            "plain": server.url(),
            "tls": tls,
            "wrong_host": wrong_host,
            "mute": mute.url(),
            "nobody": lonely.url(),
        }


def made(folder: Path) -> Path:
    """Return *folder*, once it is there."""
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())

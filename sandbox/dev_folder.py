"""What `make dev` keeps between two runs: keys, data, and a file to load for each app."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sandbox import notice_keys
from sandbox.stack import PREFIX, AddedApp

DEFAULT: Final = Path(__file__).parent.parent / "var" / "dev"


class InUseError(Exception):
    """Another `make dev` has the folder."""


class DevFolder:
    """The folder, readable for its owner alone: it holds keys, if only of a pretend Mosaic."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.redis = path / "redis"
        self.redis.mkdir(exist_ok=True)
        self.mosaic = path / "mosaic.state"
        self.operator = path / "operator.sh"
        self._lock: int | None = None

    def lock(self) -> None:
        """Keep other processes out until this one ends. Raises `InUseError`."""
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InUseError(f"make dev is running already, in {self.path}") from None

    def settings(self) -> dict[str, str]:
        """Return the worker's keys, made at the first run."""
        path = self.path / "keys.json"
        if not path.exists():
            encryption, lookup = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in "12")
            _write(path, json.dumps({"encryption_keys": f"k1:{encryption}", "lookup_key": lookup}))
        settings: dict[str, str] = json.loads(path.read_text("utf-8"))
        return settings

    def notice_key(self) -> Path:
        """Return the key that signs notices, made at the first run."""
        path = self.path / "notices.pem"
        if not path.exists():
            _write(path, notice_keys.new_pem())
        return path

    def app(self, app_id: str) -> Path:
        """Return the file an app loads, there or not."""
        return self.path / f"{app_id}.env"

    def app_key(self, app_id: str) -> str:
        """Return the key of an app that is kept."""
        return self.app(app_id).read_text("utf-8").split("SESSION_APP_KEY=")[1].split()[0]

    def keep_app(self, app_id: str, broker_url: str, added: AddedApp) -> None:
        """Write what the app loads: plain lines, for a shell, for Docker, for python-dotenv."""
        # The app's own Redis is another database of the same server, which has sixteen.
        number = 1 + len(list(self.path.glob("*.env"))) % 15
        lines = (
            f"# Client at Mosaic: {added.client_id}, secret {added.client_secret} (the worker's).",
            f"SESSION_BROKER_URL={broker_url}",
            f"SESSION_APP_ID={app_id}",
            f"SESSION_APP_KEY={added.app_key}",
            f"SESSION_MARKS_URL={_database(broker_url, number)}",
        )
        _write(self.app(app_id), "\n".join(lines) + "\n")

    def tell_broker(self, broker_url: str) -> None:
        """Tell every app where the broker is by now: its usual port may have been taken."""
        for path in self.path.glob("*.env"):
            lines = path.read_text("utf-8").splitlines()
            moved = [_moved(line, broker_url) for line in lines]
            _write(path, "\n".join(moved) + "\n")

    def keep_environment(self, environment: Mapping[str, str]) -> None:
        """Write what an operator's shell loads, the commands' place included."""
        ours = {n: v for n, v in environment.items() if n.startswith(PREFIX) or n.endswith("_URL")}
        lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(ours.items())]
        lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"')
        _write(self.operator, "\n".join(lines) + "\n")
        _write(self.path / "environment.json", json.dumps(ours))

    def environment(self) -> dict[str, str]:
        """Return what `keep_environment` kept. Raises `FileNotFoundError`."""
        variables: dict[str, str] = json.loads((self.path / "environment.json").read_text("utf-8"))
        return variables


def _moved(line: str, broker_url: str) -> str:
    name, _, value = line.partition("=")
    match name:
        case "SESSION_BROKER_URL":
            return f"{name}={broker_url}"
        case "SESSION_MARKS_URL":
            return f"{name}={_database(broker_url, int(value.rpartition('/')[2]))}"
    return line


def _database(url: str, number: int) -> str:
    return f"{url.rpartition('/')[0]}/{number}"


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")

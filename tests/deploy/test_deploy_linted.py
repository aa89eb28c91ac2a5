"""The files of deploy/ by the linters of their formats; each linter finds what is planted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
BIN: Final = Path(sys.executable).parent
DOCKERFILE: Final = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: Final = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
MANIFESTS: Final = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS: Final = sorted((DEPLOY / "systemd").glob("*.service"))
OLDEST_KUBERNETES: Final = "1.29"
UNIT_FOLDERS: Final = ("usr/lib/systemd/system", "lib/systemd/system")


def said_by(*command: str | Path, text: str | None = None) -> str:
    """What a linter says; nothing when it is content."""
    ended = subprocess.run(  # noqa: S603
        list(map(str, command)), input=text, capture_output=True, text=True, check=False
    )
    said = ended.stdout + ended.stderr
    return said if ended.returncode else ended.stderr


# --- the image


def hadolint(dockerfile: str) -> str:
    return said_by(BIN / "hadolint", "--failure-threshold", "style", "-", text=dockerfile)


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    assert hadolint(DOCKERFILE) == ""
    assert "DL3002" in hadolint(DOCKERFILE.replace("USER 10001:10001", "USER root"))


# --- compose


def compose(text: str) -> Any:
    options = pytest.importorskip("compose_spec").PyOptions(apply_merge=True)
    return options.from_yaml(text)


def test_the_compose_file_is_as_the_compose_specification_has_it() -> None:
    file = compose(COMPOSE)

    file.validate()
    assert "beat" in file.service_names()
    for right, wrong in (('restart: "no"', "restart: perhaps"), ("read_only", "readonly")):
        with pytest.raises(ValueError, match=r"perhaps|readonly"):
            compose(COMPOSE.replace(right, wrong))


# --- Kubernetes


def validated(path: Path, version: str) -> str:
    return said_by(BIN / "kubernetes-validate", "--quiet", "--strict", "-k", version, path)


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, "1.37"])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_fits_the_schemas_of_kubernetes(path: Path, version: str) -> None:
    assert validated(path, version) == ""


def test_a_misspelt_field_of_a_manifest_is_found(tmp_path: Path) -> None:
    text = (DEPLOY / "kubernetes" / "workers.yaml").read_text(encoding="utf-8")
    wrong = tmp_path / "workers.yaml"
    wrong.write_text(text.replace("livenessProbe", "livelinessProbe"), encoding="utf-8")

    assert "livelinessProbe" in validated(wrong, OLDEST_KUBERNETES)


# --- systemd


def verified(root: Path, changes: dict[str, str]) -> str:
    """What `systemd-analyze verify` says of the units on a machine that has our programs."""
    programs, units = root / "opt/mosaic-sessions/bin", root / "etc/systemd/system"
    for folder in (programs, units):
        folder.mkdir(parents=True)
    for name in UNIT_FOLDERS:  # the targets that ours name
        if (there := Path("/") / name).is_dir():
            shutil.copytree(there, root / name, symlinks=True)
    for name in ("celery", "mosaic-sessions"):
        (programs / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    for path in UNITS:
        text = path.read_text(encoding="utf-8")
        for right, wrong in changes.items():
            text = text.replace(right, wrong)
        (units / path.name).write_text(text, encoding="utf-8")
    names = [path.name.replace("@.", "@users.") for path in UNITS]
    said = said_by("systemd-analyze", "verify", f"--root={root}", *names)
    # It ends with 0 after an unknown key, and has much to say of the machine's own units.
    return "\n".join(line for line in said.splitlines() if "mosaic-sessions" in line)


needs_systemd: Final = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs Debian's package systemd"
)


@needs_systemd
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    assert len(UNITS) == 3
    assert verified(tmp_path / "right", {}) == ""


@needs_systemd
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("RestartPreventExitStatus", "RestartPreventsExitStatus"),
        ("WatchdogSec=180", "WatchdogSec=often"),
        ("bin/celery", "bin/no-such-program"),
    ],
)
def test_what_systemd_does_not_understand_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    assert wrong.rpartition("=")[2].rpartition("/")[2] in verified(tmp_path, {right: wrong})

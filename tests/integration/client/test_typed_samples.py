"""The code on the pages for apps passes `mypy --strict` as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[3]
# What a sample takes from the app around it; the fixtures of the tests are the app's own too.
AROUND = {
    "README.md": """
        from session_client import Tokens
        cookies: str
        headers: list[tuple[str, str]]
        name: str
        password: str
        def sign_in(user_id: str, tokens: Tokens) -> None: ...
    """,
    "docs/apps.md": """
        from session_client import NotAcknowledged, SessionClient
        client: SessionClient
        kept: str
        ref: str
        def end_own_session(user_id: str) -> None: ...
        def log_out_again_later(error: NotAcknowledged) -> None: ...
    """,
    "docs/first-afternoon.md": "",
    "client/README.md": "",
}
# The one sample of that page which goes on with its Flask app.
IN_THE_FLASK_APP = """
    from session_client import Authenticated, BeginWebauthn, Webauthn
    from session_client.flask import Sessions
    sessions: Sessions
    signed: str
    def transfer(number: str, payee: str, amount: str, currency: str) -> None: ...
"""
# Django's settings go on where `django-admin startproject` ends; tests have fixtures without types,
# and import the app.
LEFT_OUT = re.compile(r"INSTALLED_APPS \+=|def test_|pytest_plugins")


def test_every_sample_is_typed(tmp_path: Path) -> None:
    for page, around in AROUND.items():
        text = (ROOT / page).read_text("utf-8")
        samples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for number, sample in enumerate(samples):
            given = IN_THE_FLASK_APP if "approval_data=" in sample else around
            name = f"{re.sub('[^a-z]', '_', page.lower())}_{number}.py"
            if not LEFT_OUT.search(sample):
                (tmp_path / name).write_text(f"{dedent(given)}\n{sample}", "utf-8")
    assert len(list(tmp_path.iterdir())) == 12

    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "mypy", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout

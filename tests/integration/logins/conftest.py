"""Who may sign in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.integration.logins.login_rig import furnish
from tests.stage import Stage


@pytest.fixture
def people(request: pytest.FixtureRequest) -> Sequence[Stage]:
    """Furnish the stages of this test, and return them."""
    names = [name for name in ("stage", "sqlite_stage") if name in request.fixturenames]
    stages = [request.getfixturevalue(name) for name in names]
    for stage in stages:
        furnish(stage)
    return stages

"""An operator is told what to do for each check that tokens fail for how a client is set up."""

from __future__ import annotations

import pytest

from worker.errors import TokenRejected
from worker.mosaic.faults import OF_SETUP, TOKENS
from worker.mosaic.id_tokens import ALGORITHMS
from worker.operations.troubles import OF_TOKENS, advice


def test_there_is_advice_for_each_check() -> None:
    assert set(OF_TOKENS) == OF_SETUP


@pytest.mark.parametrize("check", sorted(OF_SETUP))
def test_the_advice_is_that_of_the_check(check: str) -> None:
    said = advice(TOKENS, "shop", TokenRejected.__name__, str(TokenRejected(check)))

    assert said.startswith(f"shop gets no tokens (token rejected: {check}). ")
    assert said.endswith(OF_TOKENS[check].format("shop"))


def test_the_algorithms_that_are_named_are_those_that_are_taken() -> None:
    assert all(algorithm in OF_TOKENS["alg"] for algorithm in ALGORITHMS)

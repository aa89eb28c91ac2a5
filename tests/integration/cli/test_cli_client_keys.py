"""Apps whose clients prove themselves to Mosaic by a private key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey

from session_client.contract import Verdict
from session_client.keys import AppKey
from tests.integration.cli.apps_rig import SECRET, row
from tests.integration.cli.cli_rig import complaint, run, told
from tests.stage import Stage

KEY = ECKey.generate_key("P-256", {"kid": "2026"})
PRIVATE: dict[str, Any] = KEY.as_dict(private=True)
FORMS = {"jwk": json.dumps(PRIVATE), "pem": KEY.as_pem(private=True).decode()}
ADD = ("apps", "add", "shop", "--client-id", "client-shop")


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    return file_of(tmp_path, FORMS["jwk"])


def file_of(folder: Path, text: str) -> str:
    path = folder / "client-key"
    path.write_text(text, encoding="utf-8")
    return str(path)


def sign_in(stage: Stage) -> Any:
    stage.reread_apps()
    stage.services.mosaic._client_tokens._slots.clear()
    stage.redis.flushall()
    return stage.silent_auth("ada", "shop")


@pytest.mark.parametrize("form", FORMS)
def test_an_added_app_signs_users_in_with_its_key_and_keeps_it_sealed(
    sqlite_stage: Stage, tmp_path: Path, form: str
) -> None:
    sqlite_stage.mosaic.state.add_client("client-shop", public_jwk=KEY.as_dict(private=False))
    file = file_of(tmp_path, FORMS[form])

    result = run(*ADD, "--client-key-file", file, "--allow", "silent_by_user", "--quiet")

    sqlite_stage.keys["shop"] = AppKey.parse(result.stdout)
    sqlite_stage.registered("ada", "shop")
    assert sign_in(sqlite_stage).verdict is Verdict.AUTHENTICATED
    assert PRIVATE["d"] not in result.output
    assert PRIVATE["d"].encode() not in row(sqlite_stage).sealed_client_secret


def test_a_secret_is_changed_for_a_key_and_back(sqlite_stage: Stage, key_file: str) -> None:
    sqlite_stage.add_app("shop")
    sqlite_stage.registered("ada", "shop")
    mosaic = sqlite_stage.mosaic.state
    shown = [told("apps", "show", "shop")["token_endpoint_auth_method"]]

    mosaic.add_client("client-shop", public_jwk=KEY.as_dict(private=False))
    run("apps", "set", "shop", "--client-key-file", key_file)
    shown.append(told("apps", "list")[0]["token_endpoint_auth_method"])
    by_key = sign_in(sqlite_stage)
    mosaic.add_client("client-shop", SECRET)
    run("apps", "set", "shop", "--client-secret-file", "-", stdin=SECRET)
    shown.append(told("apps", "show", "shop")["token_endpoint_auth_method"])
    by_secret = sign_in(sqlite_stage)

    assert shown == ["client_secret_post", "private_key_jwt", "client_secret_post"]
    assert by_key.verdict is by_secret.verdict is Verdict.AUTHENTICATED


def test_the_trail_says_that_the_key_is_new_and_not_what_it_is(
    sqlite_stage: Stage, key_file: str
) -> None:
    sqlite_stage.add_app("shop")

    run("apps", "set", "shop", "--client-key-file", key_file)

    changed = told("audit", "list", "--app", "shop")["actions"][0]
    assert changed["after"] == {
        "token_endpoint_auth_method": "private_key_jwt",
        "client_credential": "a new one",
    }
    assert PRIVATE["d"] not in json.dumps(changed)


@pytest.mark.parametrize("verb", [ADD, ("apps", "set", "shop")])
def test_a_client_has_a_secret_or_a_key(
    sqlite_stage: Stage, key_file: str, verb: tuple[str, ...]
) -> None:
    both = ("--client-secret-file", "-", "--client-key-file", key_file)

    message = run(*verb, *both, stdin=SECRET, expect=2).stderr

    assert "--client-secret-file or --client-key-file, not both" in message


@pytest.mark.parametrize("form", FORMS)
def test_a_key_in_place_of_a_secret_is_refused(
    sqlite_stage: Stage, tmp_path: Path, form: str
) -> None:
    message = complaint(*ADD, "--client-secret-file", file_of(tmp_path, FORMS[form]))

    assert "a private key is given by --client-key-file" in message
    assert PRIVATE["d"] not in message
    assert told("apps", "list") == []


def test_a_secret_in_place_of_a_key_is_refused(sqlite_stage: Stage, tmp_path: Path) -> None:
    message = complaint(*ADD, "--client-key-file", file_of(tmp_path, SECRET))

    assert "one private key, unencrypted, as PEM or JWK" in message
    assert SECRET not in message


def test_without_a_terminal_both_options_are_named(sqlite_stage: Stage) -> None:
    message = complaint(*ADD)

    assert "--client-secret-file" in message
    assert "--client-key-file" in message

"""How one talks to Mosaic by hand: httpx, a cached client token, PyJWT with cached keys."""

from __future__ import annotations

import time
from typing import Any

import httpx
import jwt

from benchmarks import people


class Mosaic:
    """One per process; safe for all threads."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=10, limits=httpx.Limits(max_connections=64))
        self._keys = jwt.PyJWKClient(f"{url}/cis/oidc/jwks")
        self._tokens: dict[str, tuple[str, float]] = {}

    def authenticate(self, app_id: str, user_id: str, session_id: str) -> dict[str, Any] | None:
        """Return tokens that are the user's; None when the session is gone."""
        answer = self._http.post(
            "/cis/v1/auth/session/authenticate",
            json={"session_id": session_id},
            headers={"Authorization": f"Bearer {self._client_token(app_id)}"},
        )
        if answer.status_code == httpx.codes.BAD_REQUEST:
            return None
        answer.raise_for_status()
        tokens: dict[str, Any] = answer.json()
        id_token = tokens["id_token"]
        claims = jwt.decode(
            id_token,
            self._keys.get_signing_key_from_jwt(id_token),
            algorithms=["RS256"],
            audience=people.client_id(app_id),
            issuer=people.ISSUER,
            leeway=60,
        )
        if claims["sub"] != user_id:
            raise ValueError("somebody else's token")
        return tokens

    def _client_token(self, app_id: str) -> str:
        token, until = self._tokens.get(app_id, ("", 0.0))
        if time.time() >= until:
            form = {
                "grant_type": "client_credentials",
                "client_id": people.client_id(app_id),
                "client_secret": people.client_secret(app_id),
            }
            answer = self._http.post("/oidc/token", data=form).raise_for_status().json()
            token, until = answer["access_token"], time.time() + answer["expires_in"] - 60
            self._tokens[app_id] = token, until
        return token

"""The tenant's signing keys."""

from __future__ import annotations

from functools import cache
from secrets import token_hex

from joserfc.jwk import KeySet, RSAKey

ROGUE = "rogue"


@cache
def rsa_key(name: str) -> RSAKey:
    """This process's key *name*. Making one takes a tenth of a second, so all states share."""
    return RSAKey.generate_key(2048, {"kid": f"{name}-{token_hex(6)}", "use": "sig"})


class KeyRing:
    """The keys the JWKS shows; the newest one signs."""

    def __init__(self) -> None:
        self._made = 0
        self._published = [rsa_key("key-0")]

    @property
    def current(self) -> RSAKey:
        """The key that signs now."""
        return self._published[-1]

    @property
    def rogue(self) -> RSAKey:
        """A key the JWKS never shows."""
        return rsa_key(ROGUE)

    def rotate(self, *, keep_old: bool = True) -> str:
        """Sign with a new key from now on and return its `kid`."""
        self._made += 1
        kept = self._published if keep_old else []
        self._published = [*kept, rsa_key(f"key-{self._made}")]
        return self.current.kid or ""

    @property
    def published(self) -> KeySet:
        """The keys the JWKS shows."""
        return KeySet([*self._published])

    def jwks(self, algorithm: str | None) -> dict[str, object]:
        """The public halves, as Mosaic publishes them; *algorithm* is what each says of itself."""
        stated = {} if algorithm is None else {"alg": algorithm}
        return {"keys": [{**key.as_dict(private=False), **stated} for key in self._published]}

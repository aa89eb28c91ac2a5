"""What single settings may look like, and how a URL is shown.

The checks raise ValueError, which pydantic puts beside the setting's name. They never quote a
value; the libraries they ask do, so nothing of theirs is passed on.
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Annotated, Final
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, SecretStr
from redis.connection import parse_url
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from session_client import amqps, sentinels

KEY_BYTES: Final = 32
SMALLEST_RSA_BITS: Final = 2048  # RFC 7518 section 3.3
MASK: Final = "********"
_NEEDS_REDIS: Final = "needs redis://, rediss:// or unix://, as redis-py reads them"
# How Celery and Valkey spell what redis-py calls by the other name.
_SPELLINGS: Final = {
    **{scheme: scheme for scheme in ("redis", "rediss", "unix")},
    "valkey": "redis",
    "valkeys": "rediss",
    "redis+socket": "unix",
}
_KID: Final = re.compile(r"[A-Za-z0-9]{1,32}")  # its length is stored in one byte
_PEM: Final = re.compile(r"-----BEGIN (?P<label>[A-Z ]+)-----[^-]+-----END (?P=label)-----")
# Scheme, host and path with nothing strange in them: what does not match is masked as a whole.
_PLAIN_URL: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<userinfo>[^/?#@]*@)?(?P<place>[^?#@]*)(?:\?[^#@]*)?",
    re.IGNORECASE,
)


def check_ca_certificates(text: str) -> str:
    """Return *text* if it holds certificates in PEM. Raises ValueError without quoting it."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError, TypeError):  # TypeError: not ASCII
        raise ValueError("needs certificates in PEM") from None
    return text


def is_redis(url: str) -> bool:
    """Whether *url* names a Redis server, in redis-py's spelling."""
    return url.startswith(("redis://", "rediss://", "unix://"))


def is_amqp(url: str) -> bool:
    """Whether *url* names a RabbitMQ, or what speaks as one does."""
    return url.startswith(("amqp://", "amqps://", "pyamqp://"))


def as_redis_py_spells_it(url: str) -> str:
    """Return *url* in redis-py's spelling; one that names no kind of Redis as it is.

    Raises ValueError for a Redis that is reached in a way we do not know.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not re.search("redis|valkey|sentinel", scheme):
        return url
    if "sentinel" in scheme:
        raise ValueError(
            "with Redis Sentinel it is redis://user:password@<name of the master>/0"
            "?sentinels=host:26379,host:26379 (rediss:// with TLS)"
        )
    if "cluster" in scheme:
        raise ValueError("Redis Cluster is not supported: name a Redis that is none")
    if scheme not in _SPELLINGS:
        raise ValueError(_NEEDS_REDIS)
    place, question, options = rest.partition("?")
    options = options.replace("virtual_host=", "db=")
    return f"{_SPELLINGS[scheme]}://{place}{question}{options}"


def parse_key_ring(text: str) -> dict[str, bytes]:
    """Read ``kid:base64,kid:base64``. Raises ValueError without quoting the text."""
    ring: dict[str, bytes] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        kid, colon, encoded = item.partition(":")
        if not colon or not _KID.fullmatch(kid) or kid in ring:
            raise ValueError(
                "needs kid:base64 pairs with distinct kids of ASCII letters and digits"
            )
        ring[kid] = decode_key(encoded)
    if not ring:
        raise ValueError("at least one key is needed (mosaic-sessions keys generate)")
    return ring


def decode_key(encoded: str) -> bytes:
    """Return the 32 bytes of a key. Raises ValueError without quoting the text."""
    try:
        key = base64.b64decode(encoded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError("each key is 32 bytes in base64 (mosaic-sessions keys generate)")
    return key


def parse_signing_keys(text: str) -> tuple[RSAPrivateKey, ...]:
    """Read RSA private keys in PEM, one after another. Raises ValueError without quoting the text.

    Text around them is ignored, as OpenSSL does; a key that is not whole is not.
    """
    blocks = [match.group() for match in _PEM.finditer(text)]
    keys = [_load_rsa_key(block) for block in blocks]
    usable = tuple(key for key in keys if key is not None)
    if not usable or len(usable) != text.count("-----BEGIN "):
        raise ValueError(
            "needs unencrypted RSA private keys in PEM of at least "
            f"{SMALLEST_RSA_BITS} bits, the signing one first"
        )
    if len({key.private_numbers().public_numbers for key in usable}) != len(usable):
        raise ValueError("the same key is there twice")
    return usable


def _load_rsa_key(pem: str) -> RSAPrivateKey | None:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        return None
    return key if isinstance(key, RSAPrivateKey) and key.key_size >= SMALLEST_RSA_BITS else None


def check_database_url(url: str) -> str:
    """Return *url* if it names a database we support with a driver that is installed."""
    try:
        parsed = make_url(url)
        is_known = parsed.get_backend_name() in {"sqlite", "postgresql"}
        parsed.get_dialect().import_dbapi()
    except (SQLAlchemyError, ImportError, ValueError):
        is_known = False
    if not is_known:
        raise ValueError(
            "needs sqlite:///<path> or postgresql+psycopg://<user>:<password>@<host>/<database>"
        )
    if "prepare_threshold" in parsed.query:  # the driver would take a text for a number, and fail
        raise ValueError(
            "leave prepare_threshold out: behind a connection pooler nothing is prepared anyway"
        )
    return url


def check_broker_url(url: str) -> str:
    """Return *url*; a Redis must be one that can be read, and is spelt as redis-py does."""
    known = as_redis_py_spells_it(url)
    if is_redis(known):
        return check_redis_url(known)
    if known.startswith(f"{amqps.SCHEME}://"):
        amqps.split(known)
    return known  # the rest of another kind of broker is Celery's to judge


def check_redis_url(url: str) -> str:
    """Return *url* in redis-py's spelling."""
    known = as_redis_py_spells_it(url)
    try:
        parse_url(known)
        path = urlsplit(known).path
    except (ValueError, TypeError):
        raise ValueError(_NEEDS_REDIS) from None
    # redis-py would take another path for database 0, and kombu fail at its first use.
    if not known.startswith("unix://") and not re.fullmatch(r"/{0,2}[0-9]*", path):
        raise ValueError("the database after the host must be a number")
    if options := sentinels.split(known)[1]:
        _check_sentinels(known, options)
    return known


def _check_sentinels(url: str, options: Mapping[str, str]) -> None:
    if url.startswith("unix://"):
        raise ValueError("sentinels: a socket has none")
    sentinels.places(options.get("sentinels", ""))


def check_http_url(url: str) -> str:
    """Return *url* without a slash at its end. Raises ValueError, which never quotes it."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or set("?#@") & set(url):
        raise ValueError("needs an http(s) URL without user, query and fragment")
    return url.rstrip("/")


def check_api_url(url: str) -> str:
    """Return *url* if it is an http(s) one with user and password. It is never quoted."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and parts.port != 0
        is_usable = is_usable and all((parts.hostname, parts.username, parts.password))
    except ValueError:
        is_usable = False
    if not is_usable or set("?#") & set(url):
        raise ValueError("needs http://user:password@host:port, or https://")
    return url


def check_proxy_url(url: str) -> str:
    """Return *url* if it names an HTTP proxy. Raises ValueError, which never quotes it."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        is_usable = False
    if not is_usable or parts.path not in {"", "/"} or set("?#") & set(url):
        raise ValueError(
            "needs http://host:port or https://host:port, with user:password@ before the host "
            "where it asks for them; SOCKS is not supported"
        )
    return url


def without_password(url: str) -> str:
    """Return *url* without userinfo and query; nothing of it when it cannot be taken apart safely.

    A password with an unescaped "/" or "?" would otherwise pass as a host or a path.
    """
    parts = _PLAIN_URL.fullmatch(url)
    if parts is None:
        return MASK
    return f"{parts['scheme']}{'***@' if parts['userinfo'] else ''}{parts['place']}"


def secret(check: Callable[[str], object]) -> AfterValidator:
    """Return what holds a secret text to *check*."""

    def check_secret(value: SecretStr) -> SecretStr:
        check(value.get_secret_value())
        return value

    return AfterValidator(check_secret)


def secret_url(check: Callable[[str], str]) -> AfterValidator:
    """Return what replaces a secret URL by what *check* makes of it."""
    return AfterValidator(lambda value: SecretStr(check(value.get_secret_value())))


BaseUrl = Annotated[str, AfterValidator(check_http_url)]

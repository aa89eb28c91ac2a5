"""RabbitMQ behind TLS: ``amqps://user:password@host/vhost?ssl_ca_certs=/etc/ssl/company.pem``.

By itself kombu takes any certificate that a public authority has signed, for whatever name, and
fails on the options by which a Redis' URL names authority and certificate.
"""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

SCHEME: Final = "amqps"
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_LOOKED_AT: Final = {"required": ssl.CERT_REQUIRED, "none": ssl.CERT_NONE}


def split(url: str) -> tuple[str, dict[str, Any]]:
    """Return *url* without what it says of TLS, and that, as arguments of py-amqp.

    Raises ValueError for what cannot be meant.
    """
    if ";" in url:  # kombu would hold all servers to the name of the first
        raise ValueError("with amqps one URL, not a list; for a failover name what moves")
    parts = urlsplit(url)
    parameters = parse_qsl(parts.query, keep_blank_values=True)
    options = {name: value for name, value in parameters if name.startswith("ssl_")}
    rest = urlencode([(name, value) for name, value in parameters if name not in options])
    return urlunsplit(parts._replace(query=rest)), _as_py_amqp_spells_it(options, parts.hostname)


def _as_py_amqp_spells_it(options: dict[str, str], host: str | None) -> dict[str, Any]:
    looked_at = options.pop("ssl_cert_reqs", "required")
    if options.keys() - set(_FILES) or looked_at not in _LOOKED_AT:
        raise ValueError(f"of TLS it may say {', '.join(_FILES)} and ssl_cert_reqs=none")
    files = {name.removeprefix("ssl_"): path for name, path in options.items()}
    # Without a name the certificate is held to none.
    name = {"server_hostname": host} if looked_at == "required" else {}
    return {"cert_reqs": _LOOKED_AT[looked_at], **name, **files}

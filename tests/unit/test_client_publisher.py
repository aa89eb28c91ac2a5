"""How the client speaks to its broker."""

from __future__ import annotations

import ssl

import pytest

from session_client.publisher import Publisher


@pytest.mark.parametrize(
    ("url", "spoken"),
    [
        ("redis://h/0", False),
        ("rediss://h/0", {"ssl_cert_reqs": "required"}),
        ("rediss://h/0?ssl_ca_certs=/ca.pem", {"ssl_ca_certs": "/ca.pem"}),
        ("rediss://h/0?ssl_cert_reqs=none", {"ssl_cert_reqs": ssl.CERT_NONE}),
    ],
)
def test_rediss_means_a_certificate_that_is_looked_at(url: str, spoken: object) -> None:
    publisher = Publisher(url, "client")

    assert publisher._connections.connection.ssl == spoken
    publisher.close()

"""Certificates for servers that live as long as a test."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_PEM = serialization.Encoding.PEM
_PKCS8 = serialization.PrivateFormat.PKCS8


def make_certificate(folder: Path, name: str) -> Path:
    """Return a file with a certificate for *name* and its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _written(
        folder / "certificate.pem", _unsigned(name, key).sign(key, hashes.SHA256()), key
    )


def make_certificates(folder: Path, *names: str) -> tuple[Path, ...]:
    """Return the file of an authority's certificate, and one for each name that it has signed."""
    authority = ec.generate_private_key(ec.SECP256R1())
    able_to_sign = x509.BasicConstraints(ca=True, path_length=None)
    made = [
        _written(
            folder / "authority.pem",
            _unsigned("authority", authority)
            .add_extension(able_to_sign, critical=True)
            .sign(authority, hashes.SHA256()),
            authority,
        )
    ]
    for number, name in enumerate(names):
        key = ec.generate_private_key(ec.SECP256R1())
        signed = _unsigned(name, key, "authority").sign(authority, hashes.SHA256())
        made.append(_written(folder / f"{number}.pem", signed, key))
    return tuple(made)


def _unsigned(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str | None = None
) -> x509.CertificateBuilder:
    try:
        alternative: x509.GeneralName = x509.IPAddress(ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(
            _called(issuer or name), _called(name), key.public_key(), x509.random_serial_number()
        )
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    )


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _written(path: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Path:
    private = key.private_bytes(_PEM, _PKCS8, serialization.NoEncryption())
    path.write_bytes(certificate.public_bytes(_PEM) + private)
    return path


def server_context(certificate: Path, clients: Path | None = None) -> ssl.SSLContext:
    """Return what a server with *certificate* speaks TLS with: with *clients* of that one alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context

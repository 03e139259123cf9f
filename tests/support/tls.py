"""Certificates for tests, signed by authorities of the test's own."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, name: str = "tests") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._certificate = _certificate(self._name, self._name, self._key, self._key, ca=True)
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        name: str = "server",
        *,
        domains: Sequence[str] | None = None,
        expire_time: datetime | None = None,
    ) -> Pair:
        """A new certificate, for servers and clients alike.

        Args:
            domains: what it is for in place of 127.0.0.1.
            expire_time: tomorrow by default.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(
            _name(name), self._name, key, self._key, ca=False, of=domains, until=expire_time
        )
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), private_pem(key))


def private_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    """A private key as PEM."""
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


@dataclass(frozen=True)
class Files:
    """Where a server's certificate lies."""

    certificate: Path
    key: Path
    authority: Path

    @classmethod
    def write(cls, directory: Path, pair: Pair, authority: Authority | None = None) -> Files:
        """Writes the files into a directory."""
        directory.mkdir(exist_ok=True)
        files = cls(directory / "tls.crt", directory / "tls.key", directory / "ca.crt")
        files.renew(pair)
        if authority is not None:
            files.authority.write_bytes(authority.pem)
        return files

    def renew(self, pair: Pair) -> None:
        """Replaces certificate and key."""
        self.certificate.write_bytes(pair.certificate)
        self.key.write_bytes(pair.key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool,
    of: Sequence[str] | None = None,
    until: datetime | None = None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    day = timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * day)
        .not_valid_after(until or now + day)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                if of is None
                else [x509.DNSName(one) for one in of]
            ),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )

"""The server's certificate, from files that are renewed while it runs.

New connections get the newest certificate that is good; what is under way keeps
the one it began with. Files that do not fit each other, as when only one of them
has been replaced yet, change nothing: the old certificate stays, and the log says so.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

_log = structlog.get_logger("keyfence.tls")


class UnusableCertificate(Exception):
    """The files cannot be read, or do not make a certificate with its key."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the certificate is.

    Attributes:
        certificate: PEM, the server's certificate first, then those that issued it.
        key: PEM, the certificate's private key, without a passphrase.
        client_authority: PEM, the authorities that clients' certificates must come
            from. None: clients need no certificate.
    """

    certificate: Path
    key: Path
    client_authority: Path | None = None


@dataclass(frozen=True, slots=True, repr=False)
class _Contents:
    certificate: bytes
    key: bytes
    client_authority: bytes | None


class ServerCertificate:
    """A certificate that follows its files."""

    def __init__(self, files: CertificateFiles) -> None:
        """Reads the files. Raises `UnusableCertificate`."""
        self._files = files
        self._contents = _read(files)
        self._configuration = _configuration(self._contents)
        self._last_problem = ""

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for one port, which follow the files. Each port needs its own."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration,
            self._fetcher(),  # type: ignore[arg-type]  # None is allowed, and means no change
            require_client_authentication=self._files.client_authority is not None,
        )

    def reload(self) -> bool:
        """Reads the files again, and says whether there is a new certificate."""
        try:
            contents = _read(self._files)
        except UnusableCertificate as problem:
            # Said once, and not at every look.
            if str(problem) != self._last_problem:
                self._last_problem = str(problem)
                _log.error("keeping the old certificate", problem=self._last_problem)
            return False
        self._last_problem = ""
        if contents == self._contents:
            return False
        self._contents = contents
        self._configuration = _configuration(contents)
        _log.info("certificate renewed", file=str(self._files.certificate))
        return True

    async def follow(self, interval_seconds: float) -> None:
        """Reads the files again every so often, until cancelled."""
        while True:
            await asyncio.sleep(interval_seconds)
            await asyncio.to_thread(self.reload)

    def _fetcher(self) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        # gRPC asks before each handshake, from threads of its own, and for each port on
        # its own. A port that has the newest configuration is told None.
        current = self._configuration

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal current
            if self._configuration is current:
                return None
            current = self._configuration
            return current

        return fetch


def _read(files: CertificateFiles) -> _Contents:
    before = _read_once(files)
    _check(files)
    # The check reads the files by itself. What it has seen is what was read if nothing
    # has changed from before it to after it.
    if _read_once(files) != before:
        raise UnusableCertificate("the files changed while they were read")
    return before


def _read_once(files: CertificateFiles) -> _Contents:
    try:
        return _Contents(
            files.certificate.read_bytes(),
            files.key.read_bytes(),
            files.client_authority.read_bytes() if files.client_authority else None,
        )
    except OSError as error:
        raise UnusableCertificate(f"{error.filename}: {error.strerror}") from None


def _check(files: CertificateFiles) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A passphrase would otherwise be asked for on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except (ssl.SSLError, ValueError, OSError) as error:
        raise UnusableCertificate(
            f"{files.certificate} and {files.key} are not a PEM certificate and its private "
            f"key without a passphrase: {_why(error)}"
        ) from None
    if files.client_authority is None:
        return
    try:
        context.load_verify_locations(files.client_authority)
    except (ssl.SSLError, OSError) as error:
        raise UnusableCertificate(
            f"{files.client_authority} holds no PEM certificate: {_why(error)}"
        ) from None


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error)


def _configuration(contents: _Contents) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(contents.key, contents.certificate)], root_certificates=contents.client_authority
    )

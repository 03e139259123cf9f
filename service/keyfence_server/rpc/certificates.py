"""The server's certificate, from files that are renewed while it runs.

New connections get the newest valid certificate; open connections keep theirs. Files that
do not fit each other, as when only one of them has been replaced yet, or that hold an
expired certificate change nothing: the old certificate stays, and the log says so. A
certificate that expires soon is logged once a day, and is in the metrics.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import grpc
import structlog
from cryptography.x509 import load_pem_x509_certificates

from keyfence_server.application.ports import Clock

_WARNED_BEFORE: Final = timedelta(days=21)
_WARNED_EVERY: Final = timedelta(days=1)

_log = structlog.get_logger("keyfence.tls")


class UnusableCertificate(Exception):
    """The files cannot be read, do not make a certificate with its key, or have expired."""


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
    """A certificate that follows its files.

    Attributes:
        expire_time: when the certificate expires, or one of those that issued it.
    """

    def __init__(self, files: CertificateFiles, clock: Clock) -> None:
        """Reads the files. Raises `UnusableCertificate`."""
        self._files = files
        self._clock = clock
        self._contents = _read(files)
        self.expire_time = _valid_until(self._contents, files, clock.now())
        self._warned_at: datetime | None = None
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
            if contents == self._contents:
                self._last_problem = ""
                return False
            expire_time = _valid_until(contents, self._files, self._clock.now())
        except UnusableCertificate as problem:
            # Said once, and not at every look.
            if str(problem) != self._last_problem:
                self._last_problem = str(problem)
                _log.error("certificate_not_replaced", problem=self._last_problem)
            return False
        self._last_problem = ""
        self._contents = contents
        self.expire_time = expire_time
        self._warned_at = None
        self._configuration = _configuration(contents)
        _log.info(
            "certificate_renewed",
            file=str(self._files.certificate),
            expire_time=expire_time.isoformat(),
        )
        return True

    async def follow(self, interval_seconds: float) -> None:
        """Reads the files again every so often, until cancelled."""
        while True:
            self.warn_of_expiry()
            await asyncio.sleep(interval_seconds)
            await asyncio.to_thread(self.reload)

    def warn_of_expiry(self) -> None:
        """Logs, once a day, that the certificate expires in less than three weeks, or has."""
        now = self._clock.now()
        if now < self.expire_time - _WARNED_BEFORE:
            return
        if self._warned_at is not None and now - self._warned_at < _WARNED_EVERY:
            return
        self._warned_at = now
        about = {
            "file": str(self._files.certificate),
            "expire_time": self.expire_time.isoformat(),
            "advice": "replace the files; the server reads them again by itself",
        }
        if now < self.expire_time:
            days = (self.expire_time - now).days
            _log.warning("certificate_expires_soon", days_left=days, **about)
        else:
            _log.error("certificate_expired", **about)

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


def _valid_until(contents: _Contents, files: CertificateFiles, now: datetime) -> datetime:
    """When the first certificate of the chain expires. Raises `UnusableCertificate`."""
    try:
        chain = load_pem_x509_certificates(contents.certificate)
    except ValueError:
        raise UnusableCertificate(f"{files.certificate} holds no PEM certificate") from None
    expire_time = min(one.not_valid_after_utc for one in chain)
    if expire_time <= now:
        raise UnusableCertificate(
            f"{files.certificate}: a certificate in it expired at {expire_time.isoformat()}; "
            "put a valid one there"
        )
    return expire_time


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error)


def _configuration(contents: _Contents) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(contents.key, contents.certificate)], root_certificates=contents.client_authority
    )

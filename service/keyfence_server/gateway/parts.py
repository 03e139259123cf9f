"""Parts of Envoy's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Config = dict[str, Any]


def typed(kind: str, **fields: object) -> Config:
    """A message in the place of any message. `kind` is its full name without `envoy`."""
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def extension(name: str, kind: str, **fields: object) -> Config:
    """A part of Envoy that is named and has a configuration of its own. `kind` is the
    configuration's message, as in `typed`, without `extensions`."""
    return {"name": f"envoy.{name}", "typed_config": typed(f"extensions.{kind}", **fields)}


def http_filter(name: str, kind: str, **fields: object) -> Config:
    """A filter for every route."""
    return {"name": name, "typed_config": typed(f"extensions.filters.http.{kind}", **fields)}


def header(name: str, value: str) -> Config:
    """Sets a header, and replaces it if it is there."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def has_header(name: str) -> Config:
    """Matches requests with the header."""
    return {"name": name, "present_match": True}


def lacks_header(name: str) -> Config:
    """Matches requests without the header."""
    return {"name": name, "present_match": False}


def header_like(name: str, pattern: str) -> Config:
    """Matches requests by a header's whole value; values of several are joined by commas."""
    return {"name": name, "string_match": {"safe_regex": {"regex": pattern}}}


def is_method(verb: str) -> Config:
    """Matches requests by their method."""
    return {"name": ":method", "string_match": {"exact": verb}}


def share(percent: int) -> Config:
    """A share of the requests."""
    return {"default_value": {"numerator": percent, "denominator": "HUNDRED"}}


def absolute(path: Path) -> str:
    """A file's path as Envoy finds it from wherever it runs."""
    return str(path.absolute())

"""Parts of Envoy's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

Config = dict[str, Any]

FILTERS: Final = "type.googleapis.com/envoy.extensions.filters.http"
_NETWORK_FILTERS: Final = "type.googleapis.com/envoy.extensions.filters.network"


def http_filter(name: str, kind: str, **fields: object) -> Config:
    """A filter for every route."""
    return {"name": name, "typed_config": {"@type": f"{FILTERS}.{kind}", **fields}}


def network_filter(name: str, kind: str, **fields: object) -> Config:
    """A filter for every connection."""
    return {"name": name, "typed_config": {"@type": f"{_NETWORK_FILTERS}.{kind}", **fields}}


def header(name: str, value: str) -> Config:
    """Sets a header, and replaces it if it is there."""
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


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

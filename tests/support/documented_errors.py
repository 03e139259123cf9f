"""The reasons of errors that the protos promise for each RPC: nothing else may be answered.

The comments of the protos are no part of the stubs, so they are read from the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_PROTOS: Final = Path(__file__).parents[2] / "protos" / "keyfence" / "v1"
_COMMENTED_RPC: Final = re.compile(r"((?:^ *//.*\n)+) *rpc (\w+)\(", re.MULTILINE)
_LINE_START: Final = re.compile(r"^ *// ?", re.MULTILINE)
_NAME: Final = re.compile(r"`(\w+)`")


def _listed() -> Iterator[tuple[str, str]]:
    for path in _PROTOS.glob("*_service.proto"):
        for comment, rpc in _COMMENTED_RPC.findall(path.read_text(encoding="utf-8")):
            yield rpc, _LINE_START.sub("", comment).partition("Errors: ")[2]


def _read() -> Mapping[str, frozenset[str]]:
    listed = dict(_listed())

    def names_of(rpc: str) -> frozenset[str]:
        names = _NAME.findall(listed[rpc])
        # "those of `Authenticate`, and …"
        return frozenset().union(*(names_of(one) if one in listed else {one} for one in names))

    return {rpc: names_of(rpc) for rpc in listed}


def _read_general() -> frozenset[str]:
    text = (_PROTOS / "error_reason.proto").read_text(encoding="utf-8")
    said = text.partition("Every RPC can fail with")[2].partition("What else")[0]
    return frozenset(_NAME.findall(said))


OF_EVERY_RPC: Final = _read_general()
"""What error_reason.proto says of every RPC: it is not repeated at each."""

BY_RPC: Final = _read()
"""By the RPC's name, without those of every RPC."""


def is_documented(rpc: str, reason: str) -> bool:
    """Whether the RPC may answer with this reason."""
    return reason in OF_EVERY_RPC or reason in BY_RPC[rpc]

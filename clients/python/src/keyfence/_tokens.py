"""Where the client's own token comes from, so that it can be renewed without a restart."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias

from keyfence.errors import ConfigurationError

Token: TypeAlias = str | os.PathLike[str] | Callable[[], str]
"""The token itself, a file that holds it, or a function that returns it.

The file is read again when it has changed. The function is called for every RPC, and
must be quick.
"""

AsyncToken: TypeAlias = Token | Callable[[], Awaitable[str]]
"""As `Token`; the function may be asynchronous."""

_SHORTEST_TOKEN: Final = 22
"""128 bits of entropy take as many characters, out of at most 64."""


TokenSource: TypeAlias = Callable[[], str | Awaitable[str]]
"""Has the token of the moment; an awaitable, if that is what the caller gave."""


def token_source(token: AsyncToken) -> TokenSource:
    """The source for whatever the caller gave as the token.

    Raises:
        ConfigurationError: a text that cannot be a token.
    """
    if isinstance(token, str):
        checked = checked_token(token)
        return lambda: checked
    if isinstance(token, os.PathLike):
        return _TokenFile(token)
    return token


def checked_token(token: object) -> str:
    """The token, if it can travel as metadata.

    Raises:
        ConfigurationError: it cannot. The text is not in the message: it may be a secret.
    """
    if not isinstance(token, str):
        raise ConfigurationError(f"the token must be a string, not {type(token).__name__}")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            "the token must be one or more printable ASCII characters without spaces"
        )
    return token


def bearer(token: str) -> tuple[str, str]:
    """The metadata that presents a token."""
    return "authorization", f"Bearer {token}"


class _TokenFile:
    """Reads a file once for each of its versions."""

    def __init__(self, path: os.PathLike[str]) -> None:
        self._path = Path(path)
        self._version: tuple[int, int, int] | None = None
        self._token = ""

    def __call__(self) -> str:
        try:
            status = self._path.stat()
            # A replaced file has another inode, even when its times were copied.
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if version != self._version:
                self._token = checked_token(self._path.read_text(encoding="ascii").strip())
                self._version = version
        except (OSError, UnicodeDecodeError) as error:
            # No token has a slash or is short: what is neither may be the token itself, in the
            # wrong place.
            is_a_name = len(self._path.parts) > 1 or len(self._path.name) < _SHORTEST_TOKEN
            named = f" {str(self._path)!r}" if is_a_name else ""
            reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
            raise ConfigurationError(f"the token file{named} cannot be read: {reason}") from None
        return self._token

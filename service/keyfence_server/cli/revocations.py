"""Revokes keys one by one, and reports the revoked keys even if a later one fails."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Final

import typer

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure
from keyfence_server.cli.key_ids import is_key_id
from keyfence_server.cli.output import Output, note, say, say_json
from keyfence_server.domain.plurals import counted

if TYPE_CHECKING:
    from typing import Self

    from keyfence import Client
    from keyfence.results import Key

_LONGEST_LINE: Final = 4_096
_PAGE: Final = 1_000


class Revocations:
    """Revokes keys for one command. What was revoked is printed also if a later key fails."""

    def __init__(self, client: Client, comment: str, output: Output) -> None:
        self._client = client
        self._comment = comment
        self._output = output
        self._revoked: list[object] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._output is Output.JSON and (self._revoked or kind is None):
            say_json({"revoked": self._revoked})

    def revoke(self, key_id: str) -> None:
        """Revokes a key. Raises what the client raises."""
        changed = self._client.revoke_key(key_id, comment=self._comment)
        self._revoked.append(changed)
        if self._output is Output.TABLE:
            say(f"Revoked {changed.key.key_id} at revision {changed.revision}.")

    def revoke_lines(self, lines: Iterable[bytes]) -> None:
        """Revokes the keys of these lines: an id or a plaintext each. Empty lines are skipped.

        Raises:
            Failure: when all lines are done, if there was no such key for some of them.
        """
        from keyfence import NotFound

        unknown = []
        for number, line in enumerate(lines, start=1):
            text = line[:_LONGEST_LINE].decode("utf-8", "replace").strip()
            if not text:
                continue
            try:
                key_id = text if is_key_id(text) else self._id_of(text)
                if key_id is not None:
                    self.revoke(key_id)
                    continue
            except NotFound:
                pass
            # The line may be a key, so it is not repeated.
            unknown.append(number)
            note(f"line {number}: there is no such key")
        if unknown:
            raise Failure(
                f"{counted(len(unknown), 'line')} of standard input named no key; "
                f"{counted(len(self._revoked), 'key')} revoked",
                ExitCode.NOT_FOUND,
                {"lines": unknown},
            )

    def revoke_account(self, keyspace: str, account: str, *, is_confirmed: bool) -> None:
        """Revokes all keys of an account that are not revoked yet.

        Raises:
            Failure: it was not confirmed.
        """
        keys = self._keys_of(keyspace, account)
        if not keys:
            note(f'Account "{account}" has no keys in "{keyspace}" that could be revoked.')
            return
        if not is_confirmed:
            _confirm(f'Revoke {counted(len(keys), "key")} of account "{account}" in "{keyspace}"?')
        while keys:
            for key in keys:
                self.revoke(key.key_id)
            # A key may have been created meanwhile.
            keys = self._keys_of(keyspace, account)

    def _keys_of(self, keyspace: str, account: str) -> list[Key]:
        from keyfence.results import KeyState

        found = self._client.list_keys(keyspace=keyspace, account_id=account, page_size=_PAGE)
        return [key for key in found if key.state is not KeyState.REVOKED]

    def _id_of(self, api_key: str) -> str | None:
        found = self._client.find_key(api_key)
        return found.key_id if found is not None else None


def _confirm(question: str) -> None:
    if sys.stdin.isatty() and typer.confirm(question, err=True):
        return
    raise Failure(f"{question} Nothing was revoked; confirm with --yes.", ExitCode.WRONG_INPUT)

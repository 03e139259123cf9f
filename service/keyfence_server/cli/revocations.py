"""Revokes keys one by one, and reports the revoked keys even if a later one fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import typer

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure
from keyfence_server.cli.option_values import is_key_id
from keyfence_server.cli.output import Output, note, say, say_json
from keyfence_server.cli.standard_input import is_terminal
from keyfence_server.domain.plurals import counted

if TYPE_CHECKING:
    from typing import Self

    from keyfence import Client
    from keyfence.results import Key

_LONGEST_LINE: Final = 4_096
_PAGE: Final = 1_000
_SHOWN: Final = 3


@dataclass(eq=False)
class Revocations:
    """Revokes keys for one command. What was revoked is printed also if a later key fails."""

    _client: Client
    _comment: str
    _output: Output
    _revoked: list[object] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_details: object) -> None:
        if self._output == "json" and (self._revoked or kind is None):
            say_json({"revoked": self._revoked})

    def revoke(self, key_id: str) -> None:
        """Revokes a key. Raises what the client raises."""
        changed = self._client.revoke_key(key_id, comment=self._comment)
        self._revoked.append(changed)
        if self._output == "table":
            say(f"Revoked {changed.key.key_id} at revision {changed.revision}.")

    def revoke_lines(self, lines: Iterable[bytes]) -> None:
        """Revokes the keys of these lines: an id or a plaintext each. Empty lines are skipped.
        Raises `Failure` when all lines are done, if there was no such key for some of them, or if
        all lines are empty."""
        from keyfence import NotFound

        unknown = []
        is_empty = True
        for number, line in enumerate(lines, start=1):
            text = line[:_LONGEST_LINE].decode("utf-8", "replace").strip()
            if not text:
                continue
            is_empty = False
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
        if is_empty:
            raise Failure(
                "standard input holds no key and no id; nothing was revoked", ExitCode.WRONG_INPUT
            )
        if unknown:
            raise Failure(
                f"{counted(len(unknown), 'line')} of standard input named no key; "
                f"{counted(len(self._revoked), 'key')} revoked",
                ExitCode.NOT_FOUND,
                {"lines": unknown},
            )

    def revoke_found(self, keyspace: str, wanted: Mapping[str, Any], *, is_confirmed: bool) -> None:
        """Revokes all keys of a keyspace that pass filters and are not revoked yet. `wanted` are
        the filters, as the client's `list_keys` takes them. Raises `Failure` if not confirmed."""
        keys = self._not_revoked(keyspace, wanted)
        if not keys:
            note(f'No key in "{keyspace}" that could be revoked passes the filters.')
            return
        if not is_confirmed:
            _confirm(f"Revoke {_described(keys)}?")
        while keys:
            for key in keys:
                self.revoke(key.key_id)
            # A key may have been created meanwhile.
            keys = self._not_revoked(keyspace, wanted)

    def _not_revoked(self, keyspace: str, wanted: Mapping[str, Any]) -> list[Key]:
        from keyfence.results import KeyState

        found = self._client.list_keys(keyspace=keyspace, page_size=_PAGE, **wanted)
        return [key for key in found if key.state is not KeyState.REVOKED]

    def _id_of(self, api_key: str) -> str | None:
        found = self._client.find_key(api_key)
        return found.key_id if found is not None else None


def _described(keys: Sequence[Key]) -> str:
    """How many keys of how many accounts these are, and the first of them."""
    owners = counted(len({key.account_id for key in keys}), "account")
    first = ", ".join(f"{key.key_id} ({key.display_prefix}…)" for key in keys[:_SHOWN])
    more = ", …" if len(keys) > _SHOWN else ""
    return f'{counted(len(keys), "key")} of {owners} in "{keys[0].keyspace}": {first}{more}'


def _confirm(question: str) -> None:
    if is_terminal() and typer.confirm(question, err=True):
        return
    raise Failure(f"{question} Nothing was revoked; confirm with --yes.", ExitCode.WRONG_INPUT)

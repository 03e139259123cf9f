"""Finds the facts about a presented key.

The order is chosen for the hot path: a key in memory costs one HMAC and one look-up. Only a text
that is not in memory is compared with the formats, and only a text that has the form of a key is
looked up in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from keyfence_server.application.ports import FactSource
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.formats import MAX_KEY_LENGTH
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.verdicts import Reason


class Digests(Protocol):
    """By what keys are looked up. A server has its `Peppers`."""

    @property
    def name(self) -> Callable[[str], bytes]:
        """Gives what memory knows a plaintext by."""
        ...

    def candidates(self, text: str) -> Sequence[Digest]:
        """What a plaintext may be kept under, that first by which memory knows it."""
        ...


class PresentedKeys:
    """Looks up keys by their plaintext."""

    def __init__(self, source: FactSource, digests: Digests) -> None:
        self._source = source
        self._digests = digests
        self._name = digests.name
        self._recall = source.recall

    def recall(self, text: str) -> KeyFacts | None:
        """What memory holds of the presented key; None if `find` has to look it up."""
        if len(text) > MAX_KEY_LENGTH or not text.isascii():
            return None
        return self._recall(self._name(text))

    async def find(self, text: str) -> KeyFacts | Reason:
        """What is known of the presented key, or why nothing is.

        Raises:
            StoreUnavailable: it is not in memory, and the store cannot be asked.
        """
        if not text:
            return Reason.CREDENTIAL_MISSING
        if len(text) > MAX_KEY_LENGTH or not text.isascii():
            return Reason.CREDENTIAL_MALFORMED
        facts = self._recall(self._name(text))
        if facts is not None:
            return facts
        # A keyspace that is being read may have a form that it did not have before. Only a text of
        # no other form has to wait for that.
        if not await self.keyspaces_of(text, _none) and not await self.keyspaces_of(text):
            return Reason.CREDENTIAL_MALFORMED
        return await self._source.find_facts(self._digests.candidates(text)) or Reason.KEY_UNKNOWN

    async def display_prefix_of(self, text: str, keyspace: str) -> str:
        """The display prefix of a text that has the form of a key of this keyspace, else empty."""
        recogniser = await self._source.recogniser(keyspace.__eq__)
        return recogniser.display_prefix_of(text, keyspace)

    async def keyspaces_of(
        self, text: str, concerns: Callable[[str], bool] = lambda _: True
    ) -> frozenset[str]:
        """The keyspaces whose keys have the form of this text.

        Args:
            concerns: of which keyspaces that must be known as they are now; see `FactSource`.
        """
        return (await self._source.recogniser(concerns)).keyspaces_of(text)


def _none(_: str) -> bool:
    return False

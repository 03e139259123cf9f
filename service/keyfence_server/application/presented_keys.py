"""Finds the facts about a presented key.

The order is chosen for the hot path: a key in memory costs one HMAC and one look-up. Only a text
that is not in memory is compared with the formats, and only a text that has the form of a key is
looked up in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from keyfence_server.application.callers import Caller
from keyfence_server.application.imported_keys import ImportedKeys
from keyfence_server.application.ports import FactSource
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.formats import MAX_KEY_LENGTH
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.secrets import Digest


class Digests(Protocol):
    """Makes the digests by which keys are looked up: `Peppers` in a server process,
    `PresentedDigests` in a sidecar."""

    @property
    def memory_digest(self) -> Callable[[str], bytes]:
        """Gives the digest by which memory knows a plaintext."""

    def candidates(self, text: str, keyspaces: Collection[str], /) -> Sequence[Digest]:
        """What a plaintext may be kept under, that first by which memory knows it. Keys of these
        keyspaces have its form."""


class PresentedKeys:
    """Looks up keys by their plaintext.

    Args:
        imported: looks up keys by the slow hashes of other programs, and replaces what is kept of
            imported keys. None: another server does that.
    """

    def __init__(
        self, source: FactSource, digests: Digests, imported: ImportedKeys | None = None
    ) -> None:
        self._source = source
        self._imported = imported
        self._digests = digests
        self._memory_digest = digests.memory_digest
        self._recall = source.recall

    def recall(self, text: str) -> KeyFacts | None:
        """What memory holds of the presented key; None if `find` has to look it up."""
        if len(text) > MAX_KEY_LENGTH or not text.isascii():
            return None
        return self._recall(self._memory_digest(text))

    async def find(
        self, text: str, caller: Caller | None = None, address: str = ""
    ) -> KeyFacts | Reason:
        """What is known of the presented key, or why nothing is.

        Args:
            caller: who asks. It is charged for slow hashing that comes to nothing, which is done
                only for keyspaces that it reaches.
            address: where the key comes from, if it is to tell who the caller is.

        Raises:
            StoreUnavailable: it is not in memory, and the store cannot be asked.
            Overloaded: it would have to be hashed slowly, and too much of that came to nothing.
        """
        if not text:
            return Reason.CREDENTIAL_MISSING
        if len(text) > MAX_KEY_LENGTH or not text.isascii():
            return Reason.CREDENTIAL_MALFORMED
        facts = self._recall(self._memory_digest(text))
        if facts is not None:
            return facts
        # A keyspace that is being read may have a form that it did not have before. Only a text of
        # no other form has to wait for that.
        keyspaces = await self.keyspaces_of(text, lambda _: False) or await self.keyspaces_of(text)
        if not keyspaces:
            return Reason.CREDENTIAL_MALFORMED
        candidates = self._digests.candidates(text, keyspaces)
        facts = await self._source.find_facts(candidates)
        if self._imported is not None:
            if facts is not None:
                self._imported.note_found(facts, text)
            elif self._source.has_slow_hashes:
                payer = f"address {address}"
                if caller is not None:
                    keyspaces = frozenset(filter(caller.reaches, keyspaces))
                    payer = caller.credential_id or f"address {caller.call.address}"
                if keyspaces and await self._imported.adopt(text, keyspaces, payer):
                    facts = await self._source.find_facts(candidates)
        return facts or Reason.KEY_UNKNOWN

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

"""The first start of a server on a store: its credential, its keyspaces, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog

from keyfence_server.application.apply_keyspace import ApplyKeyspace
from keyfence_server.application.first_start import FirstStart
from keyfence_server.application.ports import Clock, FactSource, SetUp
from keyfence_server.composition.backend import FirstStartReport
from keyfence_server.config import Settings
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.secrets import Peppers, Plaintext
from keyfence_server.provisioning import first_keyspaces, make_root_credential, root_key_file

_PASSING: Final = frozenset({Reason.OK, Reason.ADDRESS_NOT_ALLOWED})

_log = structlog.get_logger("keyfence")


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStartOfServer:
    """Makes the first credential and applies the first keyspaces, until that is done once.

    One that was cut off is taken up again where it stopped: all that it does can be done
    twice, and only then is it over.
    """

    settings: Settings
    set_up: SetUp
    source: FactSource
    peppers: Peppers
    first_start: FirstStart
    apply_keyspace: ApplyKeyspace
    given_root: Plaintext | None
    clock: Clock

    async def run(self) -> FirstStartReport | None:
        """Does what is left to do, and tells what has been done, if it was done here."""
        if await self.set_up.is_first_start_over():
            await self._warn_of_an_ignored_credential()
            return None
        # Whatever can be wrong with the files is found before anything is made.
        declarations = first_keyspaces(self.settings)
        is_ours = await self._make_root()
        applied = [await self.apply_keyspace.apply_as_server(one) for one in declarations]
        await self.set_up.end_first_start()
        if not is_ours:
            await self._warn_of_an_ignored_credential()
            return None
        return FirstStartReport(
            root_key_file=None if self.given_root else root_key_file(self.settings),
            keyspaces=tuple(done.value.keyspace for done in applied),
        )

    async def _make_root(self) -> bool:
        """Whether the credential that was given, or made here, is the store's first one."""
        if self.given_root is not None:
            return await self.first_start.make_root(self.given_root)
        file = root_key_file(self.settings)
        is_new = not file.exists()
        is_ours = await self.first_start.make_root(make_root_credential(self.settings))
        if not is_ours and is_new:
            # Another server on this store was faster. This file would open nothing.
            file.unlink()
        return is_ours

    async def _warn_of_an_ignored_credential(self) -> None:
        if self.given_root is None:
            return
        facts = await self.source.find_facts(self.peppers.candidates(self.given_root.reveal()))
        # There is no address here that an allow-list could be compared with.
        now = self.clock.timestamp()
        if facts is None or facts.reason_at(now, None) not in _PASSING:
            _log.warning(
                "root_key_ignored",
                advice="unset KEYFENCE_ROOT_KEY: the store has had a first credential already, "
                "and this one is not valid",
            )

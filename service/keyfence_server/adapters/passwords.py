"""Password hashing by argon2id, in threads of its own.

A hash deliberately takes a core for a tenth of a second and 64 MiB. Three limits protect
the rest of the server from a flood of log-ins: the threads are few, they have a lower
priority (on Linux each thread has its own), and only a few calls may wait for them.

The hash is of the password's digest under a pepper, not of the password. So a stolen
database does not allow tests of passwords, long passwords cost no more than short ones,
and the pepper's version shows which hashes to renew.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import argon2

from keyfence_server.domain.accounts import PasswordHash
from keyfence_server.domain.errors import Overloaded
from keyfence_server.domain.secrets import Peppers, Plaintext

MEMORY_MIB: Final = 64
PASSES: Final = 3
WORKERS: Final = 1

_WAITING: Final = 32
_NICENESS: Final = 10
# No key has a NUL, so no password's digest can be a key's.
_KIND: Final = "password\0"


class Argon2Passwords:
    """Implements the `PasswordHashes` port.

    Args:
        memory_mib: that a hash takes. With `passes`, the second choice of RFC 9106, but
            on one core, so that a log-in never takes more.
        workers: how many hashes are made at once.
        waiting: the most calls that may be in a turn.
    """

    def __init__(
        self,
        peppers: Peppers,
        *,
        memory_mib: int = MEMORY_MIB,
        passes: int = PASSES,
        workers: int = WORKERS,
        waiting: int = _WAITING,
    ) -> None:
        self._peppers = peppers
        self._hasher = argon2.PasswordHasher(
            time_cost=passes, memory_cost=memory_mib * 1024, parallelism=1, type=argon2.Type.ID
        )
        self._threads = ThreadPoolExecutor(workers, "passwords", initializer=_yield_to_others)
        self._places = waiting
        self._dummy = PasswordHash(_hash_of_nothing(self._hasher), 0)

    @contextmanager
    def turn(self) -> Iterator[None]:
        if self._places == 0:
            raise Overloaded(
                "too many passwords are being checked already; try again in a few seconds",
                limit="passwords",
            )
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1

    async def hash(self, password: Plaintext) -> PasswordHash:
        digest = self._peppers.digest(_KIND + password.reveal())
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(self._threads, self._hasher.hash, digest.value)
        return PasswordHash(text, digest.pepper_version)

    async def verify(self, password: Plaintext, kept: PasswordHash | None) -> bool:
        kept = kept or self._dummy
        digest = self._peppers.digest_under(kept.pepper_version, _KIND + password.reveal())
        if digest is None:
            # There is no account, or its pepper is missing: do the same work, then refuse.
            kept, digest = self._dummy, self._peppers.digest(_KIND + password.reveal())
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._matches, kept.text, digest.value)

    def is_outdated(self, kept: PasswordHash) -> bool:
        return (
            kept.pepper_version != self._peppers.current_version
            or self._hasher.check_needs_rehash(kept.text)
        )

    def close(self) -> None:
        """Lets the threads go, without waiting for what they are at."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, kept: str, digest: bytes) -> bool:
        try:
            return self._hasher.verify(kept, digest)
        except argon2.exceptions.VerifyMismatchError:
            return False


def _hash_of_nothing(hasher: argon2.PasswordHasher) -> str:
    """A hash that costs as much to verify as the hasher's own, and that no password has: it is
    drawn. To make one would take each start a tenth of a second."""
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    salt, drawn = (
        base64.b64encode(os.urandom(length)).rstrip(b"=").decode()
        for length in (hasher.salt_len, hasher.hash_len)
    )
    version = argon2.low_level.ARGON2_VERSION
    return f"$argon2id$v={version}${costs}${salt}${drawn}"


def _yield_to_others() -> None:
    # Elsewhere the priority would be that of the whole process.
    if sys.platform == "linux":
        # Relative: a process that was itself started with a low priority has threads below it, too.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + _NICENESS)

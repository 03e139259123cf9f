"""Counts and durations of calls, as plain numbers. The metrics read them.

Counting must cost next to nothing, so nothing here locks, allocates or knows of a
metrics library. The numbers belong to the event loop's thread; a reader in another
one sees each of them whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import grpc

from keyfence_server.application.latencies import Latencies
from keyfence_server.convert.checks import reason_of
from keyfence_server.domain.decisions import Verdict

MAX_COUNTED_KEYSPACES: Final = 1_000
"""Verdicts on keys of further keyspaces are counted together."""

OTHER_KEYSPACES: Final = "(other)"
NO_KEYSPACE: Final = ""


@dataclass(eq=False, slots=True)
class MethodStats:
    """The calls of one RPC.

    Attributes:
        succeeded: those that ended with OK, which is what nearly all of them do.
        failed: the others, by status code.
    """

    succeeded: Latencies = field(default_factory=Latencies)
    failed: dict[grpc.StatusCode, Latencies] = field(default_factory=dict)

    def add_failure(self, code: grpc.StatusCode, seconds: float) -> None:
        """Counts one call that ended with an error status."""
        latencies = self.failed.get(code)
        if latencies is None:
            latencies = self.failed[code] = Latencies()
        latencies.add(seconds)


@dataclass(eq=False, slots=True)
class VerdictStats:
    """What checks answered.

    Attributes:
        counts: by keyspace (empty: of a key that could not be told) and number of the
            `keyfence.v1.Reason`.
    """

    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    _keyspaces: set[str] = field(default_factory=set)

    def count(self, verdict: Verdict) -> None:
        """Counts one verdict."""
        facts = verdict.facts
        keyspace = facts.key.keyspace if facts is not None else NO_KEYSPACE
        self.add(keyspace, reason_of(verdict.reason))

    def add(self, keyspace: str, reason: int) -> None:
        """Counts one verdict. The keyspace is one that exists, never what a caller said."""
        if keyspace not in self._keyspaces:
            if len(self._keyspaces) >= MAX_COUNTED_KEYSPACES:
                keyspace = OTHER_KEYSPACES
            self._keyspaces.add(keyspace)
        self.counts[keyspace, reason] += 1


@dataclass(eq=False, slots=True)
class RpcStats:
    """All numbers of the RPCs.

    Attributes:
        methods: by full name, for example "/keyfence.v1.KeyService/GetKey".
    """

    methods: dict[str, MethodStats] = field(default_factory=dict)
    verdicts: VerdictStats = field(default_factory=VerdictStats)

"""Ends connections that do nothing but make work.

A call that is reset as soon as it is made, that never sends its message or that comes without
a valid credential costs nearly as much as one of a good client, and nothing but the processor
bounds how many of them somebody makes. gRPC cannot be told to end a connection. So such
calls, *fruitless* ones, are counted here, and the kernel is told:

- A connection whose calls are mostly fruitless, and many, is closed. Its client may come back
  at once.
- A *stranger* has sent no valid credential lately. If it gives its calls up, it is silenced:
  nothing that it sends arrives any more, and it is not told. Who is closed comes back, and who
  is not answered waits. If it takes the answers, which say what is wrong, it is closed.
- Where this does not help, since new strangers come, their address is slowed down: what it
  has open stays, and few of its new connections get through. That is done sooner if no
  good client is known there.

Proxies that the operator has named pass on calls of many, and are spared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from time import monotonic
from typing import Any, Final

import structlog

from keyfence_server.domain.addresses import Address
from keyfence_server.rpc import sockets
from keyfence_server.rpc.log_limit import LogLimit
from keyfence_server.rpc.origins import Peer
from keyfence_server.rpc.sockets import Measures, Source, source_of

WINDOW_SECONDS: Final = 1.0
"""What is counted is counted anew after so long."""

MOST_FRUITLESS: Final = 200
"""So many fruitless calls close a connection, if its other calls are fewer, and slow down an
address where no good client is known. One that loses interest in all the calls that it may
have open is no attacker, even if it does so twice."""

MOST_OF_STRANGER: Final = 50
"""So many end a stranger's connection."""

MOST_OF_SLOWED: Final = 10
"""And so many do if its address is slowed down; any do if all its strangers together still make
`MOST_FRUITLESS`."""

MOST_ENDED: Final = 5
"""So many strangers that were ended slow down any address."""

MOST_OF_KNOWN: Final = 1_000
"""So many fruitless calls of strangers do as well."""

MAX_KNOWN: Final = 10_000
"""Addresses of good clients beyond these are forgotten earlier."""

SILENT_SECONDS: Final = 5.0
"""Then a silenced connection is closed."""

SLOW_SECONDS: Final = 10.0
"""For so long an address is slowed down."""

ONE_IN: Final = 256
"""Of so many of its attempts to connect one gets through."""

ONE_IN_OF_KNOWN: Final = 16
"""The same where a good client is known, which may want to connect anew."""

KNOWN_SECONDS: Final = 600.0
"""For so long it is known that an address has a good client."""

_ALERTS_PER_SECOND: Final = 10

_log = structlog.get_logger("keyfence.rpc")


class _Standing(Enum):
    """What is known of a call that is under way."""

    VOUCHED = auto()
    REJECTED = auto()
    EXCUSED = auto()


@dataclass(slots=True)
class _Conduct:
    """The calls of a connection within a window.

    Attributes:
        peer: None for one that is spared.
        vouched: how many were found to have a valid credential.
        fruitless: how many ended that were not, and were not excused.
        rejected: how many of these were told why.
    """

    peer: Peer | None
    vouched: int = 0
    fruitless: int = 0
    rejected: int = 0


class FloodGuard:
    """Counts calls, and ends connections.

    Args:
        spares: whether a proxy at this address passes on calls of many.
        counts: how often each of the `MEASURES` was taken.
        later: calls back after so many seconds.
        start: runs a coroutine to its end.
        carry_out: what `sockets` has of this name.
    """

    def __init__(
        self,
        spares: Callable[[Address], bool],
        counts: Counter[str],
        later: Callable[[float, Callable[[], None]], object],
        start: Callable[[Coroutine[Any, Any, None]], object],
        carry_out: Callable[[Measures, Collection[int]], Awaitable[None]] = sockets.carry_out,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._spares: Final = spares
        self._counts: Final = counts
        self._later: Final = later
        self._start: Final = start
        self._carry_out: Final = carry_out
        self._clock: Final = clock
        self._alerts: Final = LogLimit(_ALERTS_PER_SECOND)
        self._ports: Final[set[int]] = set()
        self._due = Measures()
        # What carries them out; None when there are none. Kept, since a loop does not.
        self._work: object | None = None
        self._standing: Final[dict[object, _Standing]] = {}
        # How many calls under way have a valid credential, by their peers' names.
        self._good_calls: Final[Counter[str]] = Counter()
        self._window_began = clock()
        self._window: dict[str, _Conduct] = {}
        self._window_before: dict[str, _Conduct] = {}
        # Of strangers, by where they are: fruitless calls, and connections that were ended.
        self._fruitless: Final[Counter[Source]] = Counter()
        self._ended_strangers: Final[Counter[Source]] = Counter()
        # When there was last a good client, the longest ago first.
        self._known: Final[dict[Source, float]] = {}
        self._slowed: Final[dict[Source, int]] = {}
        # Connections whose calls are of no interest any more, by their peers' names.
        self._dismissed: Final[set[str]] = set()

    def watch(self, port: int) -> None:
        """Connections to this port of the process may be ended."""
        self._ports.add(port)

    def vouch(self, call: object, peer: str) -> None:
        """The call has a valid credential. It may be said again.

        Args:
            peer: in gRPC's words, for example "ipv4:192.0.2.1:50123".
        """
        if self._standing.get(call) is not _Standing.VOUCHED:
            self._standing[call] = _Standing.VOUCHED
            self._good_calls[peer] += 1
        self._conduct_of(peer).vouched += 1

    def reject(self, call: object) -> None:
        """The caller is told why the call fails."""
        self._standing.setdefault(call, _Standing.REJECTED)

    def excuse(self, call: object) -> None:
        """Whether it has one was not found out, and that is not its client's fault."""
        self._standing.setdefault(call, _Standing.EXCUSED)

    def has_dismissed(self, peer: str) -> bool:
        """Whether calls of this peer, in gRPC's words, are of no interest any more."""
        return peer in self._dismissed

    def ended(self, call: object, peer: str) -> None:
        """The call has ended, and was fruitless if nothing better was said of it."""
        standing = self._standing.pop(call, None)
        if standing is _Standing.VOUCHED:
            self._good_calls[peer] -= 1
            if not self._good_calls[peer]:
                del self._good_calls[peer]
        elif standing is not _Standing.EXCUSED:
            conduct = self._conduct_of(peer)
            conduct.fruitless += 1
            conduct.rejected += standing is _Standing.REJECTED
            if conduct.peer is not None and peer not in self._dismissed:
                self._judge(peer, conduct, conduct.peer)

    def _conduct_of(self, name: str) -> _Conduct:
        if self._clock() - self._window_began >= WINDOW_SECONDS:
            self._begin_window()
        conduct = self._window.get(name)
        if conduct is None:
            peer = Peer.named(name)
            is_spared = peer is None or self._spares(peer.address)
            conduct = self._window[name] = _Conduct(None if is_spared else peer)
        return conduct

    def _judge(self, name: str, conduct: _Conduct, peer: Peer) -> None:
        if self._is_stranger(name, conduct):
            source = source_of(peer.address)
            self._fruitless[source] += 1
            if conduct.fruitless >= self._most_of_stranger(source):
                self._end(name, conduct, peer, silently=2 * conduct.rejected < conduct.fruitless)
                self._ended_strangers[source] += 1
                if self._ended_strangers[source] >= MOST_ENDED:
                    self._slow(source)
            # Not at each one: whether a source is known takes looking through the window. The
            # one number is a multiple of the other.
            if self._fruitless[source] % MOST_FRUITLESS == 0 and (
                self._fruitless[source] >= MOST_OF_KNOWN or not self._is_known(source)
            ):
                self._slow(source)
        elif conduct.fruitless >= MOST_FRUITLESS and conduct.fruitless > conduct.vouched:
            self._end(name, conduct, peer, silently=False)

    def _is_stranger(self, name: str, conduct: _Conduct) -> bool:
        before = self._window_before.get(name)
        return not (
            conduct.vouched or name in self._good_calls or (before is not None and before.vouched)
        )

    def _most_of_stranger(self, source: Source) -> int:
        if source not in self._slowed:
            return MOST_OF_STRANGER
        # If its connections are many enough, each need not make many.
        return MOST_OF_SLOWED if self._fruitless[source] < MOST_FRUITLESS else 1

    def _end(self, name: str, conduct: _Conduct, peer: Peer, *, silently: bool) -> None:
        self._note("silenced" if silently else "closed", name, conduct.fruitless)
        self._dismissed.add(name)
        if silently:
            self._due.silence.add(peer)
            self._set_to_work()
            self._later(SILENT_SECONDS, partial(self._close, name, peer))
        else:
            self._close(name, peer)

    def _close(self, name: str, peer: Peer) -> None:
        self._due.close.add(peer)
        self._set_to_work()
        # The calls that end with it say nothing new. Nor for longer: the port may come back.
        self._later(WINDOW_SECONDS, partial(self._dismissed.remove, name))

    def _slow(self, source: Source) -> None:
        if source not in self._slowed and len(self._slowed) < sockets.MAX_SLOWED:
            self._note("slowed", str(source), self._fruitless[source])
            self._slowed[source] = ONE_IN_OF_KNOWN if self._is_known(source) else ONE_IN
            self._due.slow = dict(self._slowed)
            self._set_to_work()
            self._later(SLOW_SECONDS, partial(self._let_be, source))

    def _let_be(self, source: Source) -> None:
        del self._slowed[source]
        self._due.slow = dict(self._slowed)
        self._set_to_work()

    def _set_to_work(self) -> None:
        if self._work is None:
            self._work = self._start(self._carry_out_what_is_due())

    async def _carry_out_what_is_due(self) -> None:
        try:
            while self._due:
                due, self._due = self._due, Measures()
                try:
                    await self._carry_out(due, self._ports)
                except Exception:  # noqa: BLE001 - what is due next must not wait for it
                    _log.exception("measures against a flood failed")
        finally:
            self._work = None

    def _is_known(self, source: Source) -> bool:
        return source in self._known or source in self._vouched_for()

    def _vouched_for(self) -> Iterator[Source]:
        """Where the window's good clients are."""
        for conduct in self._window.values():
            if conduct.vouched and conduct.peer is not None:
                yield source_of(conduct.peer.address)

    def _begin_window(self) -> None:
        now = self._clock()
        for source in self._vouched_for():
            self._known.pop(source, None)
            self._known[source] = self._window_began
        while self._known:
            longest_ago = next(iter(self._known))
            if now - self._known[longest_ago] < KNOWN_SECONDS and len(self._known) <= MAX_KNOWN:
                break
            del self._known[longest_ago]
        is_recent = now - self._window_began < 2 * WINDOW_SECONDS
        self._window_before, self._window = self._window if is_recent else {}, {}
        self._fruitless.clear()
        self._ended_strangers.clear()
        self._window_began = now

    def _note(self, measure: str, peer: str, calls: int) -> None:
        self._counts[measure] += 1
        if self._alerts.admits():
            _log.warning("flood", measure=measure, peer=peer, calls=calls)

"""Ends connections that do nothing but make work.

A call that is reset as soon as it is made, that never sends its message or that comes without
a valid credential costs nearly as much as one of a good client, and nothing but the processor
bounds how many of them somebody makes. gRPC cannot be told to end a connection. So such
calls, *fruitless* ones, are counted here, and the kernel is told:

- A connection whose calls are mostly fruitless, and many, is closed. Its client may come back
  at once.
- A *stranger* has sent no valid credential at all. It is silenced: nothing that it sends
  arrives any more, and it is not told. Who is closed comes back, and who is not answered waits.
- Where this does not help, since new strangers come, their address is slowed down: what it
  has open stays, and few of its new connections get through. That is done sooner if no
  good client is known there.

Proxies that the operator has named pass on calls of many, and are spared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final, Protocol

import structlog

from keyfence_server.domain.addresses import Address
from keyfence_server.rpc import sockets
from keyfence_server.rpc.log_limit import LogLimit
from keyfence_server.rpc.origins import Peer
from keyfence_server.rpc.sockets import Source, source_of

WINDOW_SECONDS: Final = 1.0
"""What is counted is counted anew after so long."""

MOST_FRUITLESS: Final = 200
"""So many fruitless calls close a connection, if its other calls are fewer, and slow down an
address where no good client is known. One that loses interest in all the calls that it may
have open is no attacker, even if it does so twice."""

MOST_OF_STRANGER: Final = 50
"""So many silence a stranger."""

MOST_OF_SLOWED: Final = 10
"""And so many do if its address is slowed down."""

MOST_STRANGERS: Final = 5
"""So many silenced strangers slow down any address."""

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


class Kernel(Protocol):
    """What can be done to connections: the functions of `sockets`."""

    def silence(self, peer: Peer, /) -> None:
        """Has nothing more from this peer arrive."""

    def cut(self, peer: Peer, /) -> None:
        """Closes the connection with this peer."""

    def slow(self, one_in_by_source: Mapping[Source, int], /) -> None:
        """Lets few attempts of these through to connect, and all of others."""


@dataclass(slots=True)
class _Conduct:
    """The calls of a connection that ended within a window.

    Attributes:
        peer: None for one that is spared.
        vouched: how many had a valid credential.
    """

    peer: Peer | None
    vouched: int = 0
    fruitless: int = 0


class FloodGuard:
    """Counts calls, and ends connections.

    Args:
        spares: whether a proxy at this address passes on calls of many.
        later: calls back after so many seconds.
        counts: how often each of the `MEASURES` was taken.
    """

    def __init__(
        self,
        spares: Callable[[Address], bool],
        later: Callable[[float, Callable[[], None]], object],
        counts: Counter[str],
        kernel: Kernel = sockets,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._spares: Final = spares
        self._later: Final = later
        self._counts: Final = counts
        self._kernel: Final = kernel
        self._clock: Final = clock
        self._alerts: Final = LogLimit(_ALERTS_PER_SECOND)
        # Of calls under way: True for those with a valid credential, False if excused.
        self._standing: Final[dict[object, bool]] = {}
        self._window_began = clock()
        self._window: dict[str, _Conduct] = {}
        self._window_before: dict[str, _Conduct] = {}
        self._fruitless: Final[Counter[Source]] = Counter()
        self._silenced: Final[Counter[Source]] = Counter()
        # When there was last a good client, the longest ago first.
        self._known: Final[dict[Source, float]] = {}
        self._slowed: Final[dict[Source, int]] = {}
        # Connections whose calls are of no interest any more, by their peers' names.
        self._given_up: Final[set[str]] = set()

    def vouch(self, call: object) -> None:
        """The call has a valid credential."""
        self._standing[call] = True

    def excuse(self, call: object) -> None:
        """Whether it has one was not found out, and that is not its client's fault."""
        self._standing.setdefault(call, False)

    def has_given_up(self, peer: str) -> bool:
        """Whether calls of this peer, in gRPC's words, are of no interest any more."""
        return peer in self._given_up

    def ended(self, call: object, peer: str) -> None:
        """The call has ended, and is fruitless if nothing else was said of it.

        Args:
            peer: in gRPC's words, for example "ipv4:192.0.2.1:50123".
        """
        standing = self._standing.pop(call, None)
        if self._clock() - self._window_began >= WINDOW_SECONDS:
            self._begin_window()
        conduct = self._window.get(peer)
        if conduct is None:
            conduct = self._window[peer] = _Conduct(self._watched(peer))
        if standing:
            conduct.vouched += 1
        elif standing is None and conduct.peer is not None:
            conduct.fruitless += 1
            self._judge_connection(peer, conduct, conduct.peer)
            self._judge_source(source_of(conduct.peer.address))

    def _watched(self, name: str) -> Peer | None:
        peer = Peer.named(name)
        return None if peer is None or self._spares(peer.address) else peer

    def _judge_connection(self, name: str, conduct: _Conduct, peer: Peer) -> None:
        if name in self._given_up:
            return
        before = self._window_before.get(name)
        if not conduct.vouched and not (before is not None and before.vouched):
            source = source_of(peer.address)
            if conduct.fruitless >= (
                MOST_OF_SLOWED if source in self._slowed else MOST_OF_STRANGER
            ):
                self._note("silenced", name, conduct.fruitless)
                self._kernel.silence(peer)
                self._give_up(name, peer)
                self._count_silenced(source)
        elif conduct.fruitless >= MOST_FRUITLESS and conduct.fruitless > conduct.vouched:
            self._note("closed", name, conduct.fruitless)
            self._kernel.cut(peer)
            self._give_up(name, peer)

    def _give_up(self, name: str, peer: Peer) -> None:
        self._given_up.add(name)

        def close() -> None:
            self._given_up.remove(name)
            self._kernel.cut(peer)

        self._later(SILENT_SECONDS, close)

    def _count_silenced(self, source: Source) -> None:
        self._silenced[source] += 1
        if self._silenced[source] >= MOST_STRANGERS:
            self._slow(source)

    def _judge_source(self, source: Source) -> None:
        self._fruitless[source] += 1
        # Not at each one: whether a source is known takes looking through the window.
        if self._fruitless[source] % MOST_FRUITLESS == 0 and not self._is_known(source):
            self._slow(source)

    def _slow(self, source: Source) -> None:
        if source not in self._slowed:
            self._note("slowed", str(source), self._fruitless[source])
            self._slowed[source] = ONE_IN_OF_KNOWN if self._is_known(source) else ONE_IN
            self._kernel.slow(self._slowed)
            self._later(SLOW_SECONDS, partial(self._let_be, source))

    def _let_be(self, source: Source) -> None:
        del self._slowed[source]
        self._kernel.slow(self._slowed)

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
            self._known[source] = now
        while self._known and now - next(iter(self._known.values())) >= KNOWN_SECONDS:
            del self._known[next(iter(self._known))]
        self._window_before, self._window = self._window, {}
        self._fruitless.clear()
        self._silenced.clear()
        self._window_began = now

    def _note(self, measure: str, peer: str, calls: int) -> None:
        self._counts[measure] += 1
        if self._alerts.admits():
            _log.warning("flood", measure=measure, peer=peer, calls=calls)

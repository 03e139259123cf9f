"""Builds that have one seeded bug each, to show that the torture would notice.

    python -m fence.torture.broken NAME serve

NAME is a bug of `spec/bugs.toml`. This module takes the guard out of its own process, and then
starts the command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fence.torture import guards
from testkit.proxy import Mode


@dataclass(frozen=True, slots=True)
class Build:
    """How to take the guard out, and where its absence shows soonest.

    Attributes:
        modes: the faults of links that most of the run's faults are drawn from.
        links: which links those are; a regular expression.
        members: likewise, which processes are killed, stopped and ended.
        favoured: the kinds of faults that most are drawn from, if not those of links.
        lease_seconds: short, so that everything is quicker, unless it must be long to show.
        hasty: whether the writer repeats each mutation long before it can be fenced.
    """

    take_out: Callable[[], None]
    modes: tuple[Mode, ...] = ()
    links: str = ""
    members: str = ""
    favoured: tuple[str, ...] = ()
    lease_seconds: float = 0.5
    hasty: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of faults that most of the run's faults are drawn from; none: it shows
        without any."""
        return self.favoured or (("link",) if self.modes else ())


_SILENT: Final = (Mode.BLACKHOLE, Mode.DEAF)
_TO_HOLDERS: Final = r"-s"
_OF_CLIENTS: Final = "^(async|threads)-"
_OF_CLIENTS_AT_SERVERS: Final = "^(async-server0|threads-server1)$"
_SERVERS_OF_CLIENTS: Final = "^server[01]$"

BUILDS: Final[dict[str, Build]] = {
    "I1-together": Build(guards.fence_before_commit, _SILENT),
    "I1-durable": Build(guards.commits_are_relaxed, favoured=("database killed",)),
    "I1-write": Build(guards.renewal_is_no_write, (Mode.BLACKHOLE,), "database"),
    "I2-lease": Build(guards.lease_never_expires, (Mode.BLACKHOLE,)),
    "I2-renew": Build(guards.renews_by_itself, (Mode.BLACKHOLE,), "database"),
    "I2-sent": Build(guards.counted_from_receipt, (Mode.LATE,), _OF_CLIENTS),
    "I2-head": Build(guards.head_is_ignored),
    "I2-suspended": Build(guards.clock_sleeps, favoured=("stop",), lease_seconds=1.0),
    "I2-wall-clock": Build(
        guards.lease_by_wall_clock, (Mode.BLACKHOLE,), favoured=("wall clock", "link")
    ),
    "I3-own": Build(guards.acknowledges_first),
    "I3-sdk": Build(guards.sdk_does_not_apply),
    "I3-sidecar": Build(guards.sidecar_does_not_apply),
    "I3-kind": Build(guards.keyspaces_are_not_applied),
    "I3-downstream": Build(guards.does_not_wait_downstream, (Mode.SLOW, Mode.DEAF), _TO_HOLDERS),
    "I3-stream": Build(guards.gone_is_forgotten, (Mode.CUT,), _OF_CLIENTS, lease_seconds=2.0),
    "I3-leave": Build(
        guards.leaves_too_soon,
        _SILENT,
        _OF_CLIENTS_AT_SERVERS,
        _SERVERS_OF_CLIENTS,
        favoured=("end", "link"),
        lease_seconds=4.0,
    ),
    "I4-wait": Build(guards.fence_returns_at_once, _SILENT),
    "I4-all": Build(guards.fence_forgets_the_others, _SILENT, "database"),
    "I4-short": Build(guards.waits_too_short, _SILENT),
    "I4-after": Build(
        guards.counted_from_before_commit,
        (Mode.SLOW, Mode.DEAF),
        "^(replication|async-server0|threads-server1)$",
    ),
    "I4-whole": Build(guards.struck_off_too_soon, (Mode.BLACKHOLE,), "database"),
    "I4-counter": Build(guards.struck_off_unseen, (Mode.BLACKHOLE, Mode.SLOW), "database"),
    "I4-empty": Build(guards.returns_with_its_memory, (Mode.BLACKHOLE,), "database"),
    "I4-name": Build(
        guards.keeps_its_name,
        _SILENT,
        _OF_CLIENTS_AT_SERVERS,
        _SERVERS_OF_CLIENTS,
        favoured=("kill", "link"),
        lease_seconds=8.0,
    ),
    "I4-repeat": Build(
        guards.repeated_is_not_fenced,
        _SILENT,
        _OF_CLIENTS,
        lease_seconds=4.0,
        hasty=True,
    ),
    "I5-discard": Build(guards.fills_are_kept, (Mode.JITTER, Mode.SLOW)),
    "I5-join": Build(guards.joins_loads, (Mode.DEAF,), "database"),
    "I6": Build(guards.outlives_its_grantor, (Mode.BLACKHOLE,), "database"),
    "I7": Build(guards.remembers_decisions),
}


def break_this_process(name: str | None) -> None:
    """Seeds a bug in this process; None seeds none."""
    if name is not None:
        BUILDS[name].take_out()


def main() -> None:
    """Runs the command, broken."""
    from keyfence_server.cli import main as command  # noqa: PLC0415

    name = sys.argv.pop(1)
    break_this_process(name)
    command()


if __name__ == "__main__":
    main()

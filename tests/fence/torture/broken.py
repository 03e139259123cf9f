"""Builds with one guard missing each, to show that the torture would notice.

    python -m fence.torture.broken NAME serve

It takes the guard out of a process of its own, and then starts the command.
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
        rule: the rule of docs/fence.md that it breaks, or the variant of the model.
        modes: the faults of links that most of the run's faults are drawn from.
        links: which links those are; a regular expression.
        members: likewise, who is killed, stopped and ended.
        favoured: the kinds of faults that most are drawn from, if not those of links.
        lease_seconds: short, so that everything is quicker, unless it must be long to show.
        hasty: whether whoever changes something repeats it long before it can be fenced.
    """

    rule: str
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

    @property
    def what(self) -> str:
        """What is missing."""
        first, _, _ = (self.take_out.__doc__ or "").partition("\n\n")
        return " ".join(first.partition(": ")[2].split())


_SILENT: Final = (Mode.BLACKHOLE, Mode.DEAF)
_TO_HOLDERS: Final = r"-s"
_OF_CLIENTS: Final = "^(async|threads)-"
_OF_CLIENTS_AT_SERVERS: Final = "^(async-server0|threads-server1)$"
_SERVERS_OF_CLIENTS: Final = "^server[01]$"

BUILDS: Final[dict[str, Build]] = {
    "fence-before-commit": Build("I1-together", guards.fence_before_commit, _SILENT),
    "commits-are-relaxed": Build(
        "I1-durable", guards.commits_are_relaxed, favoured=("database killed",)
    ),
    "renewal-is-no-write": Build(
        "I1-write", guards.renewal_is_no_write, (Mode.BLACKHOLE,), "database"
    ),
    "lease-never-expires": Build("I2-lease", guards.lease_never_expires, (Mode.BLACKHOLE,)),
    "renews-by-itself": Build("I2-lease", guards.renews_by_itself, (Mode.BLACKHOLE,), "database"),
    "counted-from-receipt": Build(
        "I2-sent", guards.counted_from_receipt, (Mode.LATE,), _OF_CLIENTS
    ),
    "head-is-ignored": Build("I2-head", guards.head_is_ignored),
    "clock-sleeps": Build(
        "I2-suspended", guards.clock_sleeps, favoured=("stop",), lease_seconds=1.0
    ),
    "lease-by-wall-clock": Build(
        "I2", guards.lease_by_wall_clock, (Mode.BLACKHOLE,), favoured=("wall clock", "link")
    ),
    "acknowledges-first": Build("I3-own", guards.acknowledges_first),
    "sdk-does-not-apply": Build("I3-own", guards.sdk_does_not_apply),
    "sidecar-does-not-apply": Build("I3-own", guards.sidecar_does_not_apply),
    "keyspaces-are-not-applied": Build("I3-own", guards.keyspaces_are_not_applied),
    "does-not-wait-downstream": Build(
        "I3-downstream", guards.does_not_wait_downstream, (Mode.SLOW, Mode.DEAF), _TO_HOLDERS
    ),
    "gone-is-forgotten": Build(
        "I3-stream", guards.gone_is_forgotten, (Mode.CUT,), _OF_CLIENTS, lease_seconds=2.0
    ),
    "leaves-too-soon": Build(
        "I3-leave",
        guards.leaves_too_soon,
        _SILENT,
        _OF_CLIENTS_AT_SERVERS,
        _SERVERS_OF_CLIENTS,
        favoured=("end", "link"),
        lease_seconds=4.0,
    ),
    "fence-returns-at-once": Build("I4", guards.fence_returns_at_once, _SILENT),
    "fence-forgets-the-others": Build("I4", guards.fence_forgets_the_others, _SILENT, "database"),
    "waits-too-short": Build("I4-drift", guards.waits_too_short, _SILENT),
    "counted-from-before-commit": Build(
        "I4-after",
        guards.counted_from_before_commit,
        (Mode.SLOW, Mode.DEAF),
        "^(replication|async-server0|threads-server1)$",
    ),
    "struck-off-too-soon": Build(
        "I4-whole", guards.struck_off_too_soon, (Mode.BLACKHOLE,), "database"
    ),
    "struck-off-unseen": Build(
        "I4-counter", guards.struck_off_unseen, (Mode.BLACKHOLE, Mode.SLOW), "database"
    ),
    "returns-with-its-memory": Build(
        "I4-empty", guards.returns_with_its_memory, (Mode.BLACKHOLE,), "database"
    ),
    "keeps-its-name": Build(
        "I4-name",
        guards.keeps_its_name,
        _SILENT,
        _OF_CLIENTS_AT_SERVERS,
        _SERVERS_OF_CLIENTS,
        favoured=("kill", "link"),
        lease_seconds=8.0,
    ),
    "repeated-is-not-fenced": Build(
        "I4-repeat",
        guards.repeated_is_not_fenced,
        _SILENT,
        _OF_CLIENTS,
        lease_seconds=4.0,
        hasty=True,
    ),
    "fills-are-kept": Build("I5-discard", guards.fills_are_kept, (Mode.JITTER, Mode.SLOW)),
    "joins-loads": Build("I5-join", guards.joins_loads, (Mode.DEAF,), "database"),
    "outlives-its-grantor": Build("I6", guards.outlives_its_grantor, (Mode.BLACKHOLE,), "database"),
    "remembers-decisions": Build("I7", guards.remembers_decisions),
}


def break_this_process(name: str | None) -> None:
    """Takes a guard out of this process. None: of none."""
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

"""`python -m bench`: see `bench`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import (
    attack,
    batching,
    checks,
    edge,
    fence,
    imports,
    isolation,
    languages,
    mutations,
    peers,
    scale,
    scale_servers,
    scopes,
    worst,
)
from bench.report import Report
from conformance.programs import LANGUAGES


def _scopes(report: Report, asked: argparse.Namespace) -> None:
    scopes.measure(report, rounds=2 if asked.smoke else asked.rounds or 11)


def _checks(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        checks.measure(report, rounds=2, calls=160)
    else:
        checks.measure(report, rounds=asked.rounds or 11, calls=8_000)


def _batching(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        batching.measure(report, rounds=1, checks=320)
    else:
        batching.measure(report, rounds=asked.rounds or 7, checks=16_000)


def _edge(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        edge.measure(report, rounds=2, requests=160)
    else:
        edge.measure(report, rounds=asked.rounds or 11, requests=8_000)


def _attack(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        few = ["rapid_reset", "ping_flood"]
        attack.measure(report, rounds=1, checks=50, connections=[1], names=few)
    else:
        attack.measure(report, rounds=asked.rounds or 3, checks=2_000)


def _isolation(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        few = ["creates", "never_acknowledging_holders"]
        isolation.measure(report, rounds=1, checks=50, revocations=3, attacks=few)
    else:
        isolation.measure(report, rounds=asked.rounds or 3, checks=1_500, revocations=60)


def _languages(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        languages.measure(report, asked.language, rounds=1, calls=64, keys=20, optimized=False)
    else:
        languages.measure(
            report,
            asked.language,
            rounds=asked.rounds or 5,
            calls=4_000,
            keys=5_000,
            optimized=True,
        )


def _peers(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        peers.measure(report, rounds=1, calls=64, subjects=8, build=False)
    else:
        build = asked.only == "peers"
        peers.measure(report, rounds=7, calls=4_000, subjects=256, build=build)


def _mutations(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        mutations.measure(report, rounds=1, calls=8, holders=6)
    else:
        mutations.measure(report, rounds=asked.rounds or 5, calls=200)


def _scale(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        scale.measure(report, scale_servers.SMOKE)
    else:
        usual = scale_servers.Sizes(keys=asked.keys)
        scale.measure(report, replace(usual, rounds=asked.rounds or usual.rounds))


def _import(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        imports.measure(report, rounds=1, keys=2_000)
    else:
        imports.measure(report, rounds=asked.rounds or 3, keys=asked.keys)


def _worst(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        worst.measure(report, rounds=1, key_count=5)
    else:
        worst.measure(report, rounds=asked.rounds or 5, key_count=1_000)


_FEW: Final = fence.Renewing(holders=20, seconds=3.0)


def _fence(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        fence.measure(report, rounds=10, renewing=_FEW)
    else:
        fence.measure(report, rounds=asked.rounds or 300, renewing=fence.RENEWING)


def _leases(report: Report, asked: argparse.Namespace) -> None:
    if asked.smoke:
        fence.measure_leases(report, leases=fence.LEASES[:1], renewing=_FEW)
    else:
        fence.measure_leases(report, leases=fence.LEASES, renewing=fence.RENEWING)


PARTS: Final[Mapping[str, Callable[[Report, argparse.Namespace], None]]] = {
    "scopes": _scopes,
    "checks": _checks,
    "batching": _batching,
    "edge": _edge,
    "attack": _attack,
    "isolation": _isolation,
    "languages": _languages,
    "peers": _peers,
    "mutations": _mutations,
    "scale": _scale,
    "import": _import,
    "worst": _worst,
    "fence": _fence,
    "leases": _leases,
}


def main() -> None:
    """Measures, prints what was measured, and writes it as JSON if asked."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--smoke", action="store_true", help="a few calls only: shows that it works, no more"
    )
    parser.add_argument("--only", choices=sorted(PARTS), help="one part of it")
    parser.add_argument(
        "--language",
        action="append",
        choices=["python", *LANGUAGES],
        help="with --only languages: this one, and others if repeated; all, if not given",
    )
    parser.add_argument(
        "--keys",
        type=int,
        default=1_000_000,
        help="how many keys `import` imports, and the large store of `scale` has",
    )
    parser.add_argument("--rounds", type=int, help="how many, instead of the usual number")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write every round into this file as JSON"
    )
    asked = parser.parse_args()
    report = Report(shlex.join(["python", "-m", "bench", *sys.argv[1:]]), smoke=asked.smoke)
    report.print_head()

    def write() -> None:
        if asked.report is not None:
            report.write(asked.report)

    try:
        write()
    except OSError as error:
        parser.error(f"cannot write the report: {error}")
    for name, measure in PARTS.items():
        if asked.only in (None, name):
            measure(report, asked)
            # What was measured is kept if a later part fails.
            write()


if __name__ == "__main__":
    main()

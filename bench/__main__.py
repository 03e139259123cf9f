"""`python -m bench`: see `bench`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench import (
    attack,
    batching,
    checks,
    edge,
    fence,
    imports,
    isolation,
    languages,
    listings,
    mutations,
    peers,
    scale,
    scale_servers,
    scopes,
    worst,
)
from bench.report import Report
from conformance.programs import LANGUAGES

Run = Callable[[Report, argparse.Namespace], None]


def _part(
    measure: Callable[..., None], *, usual: Mapping[str, Any], smoke: Mapping[str, Any]
) -> Run:
    """A part that is measured with these counts, or with those of a smoke run.

    Args:
        usual: `--rounds` replaces its rounds.
    """

    def run(report: Report, asked: argparse.Namespace) -> None:
        if asked.smoke:
            measure(report, **smoke)
        elif asked.rounds and "rounds" in usual:
            measure(report, **{**usual, "rounds": asked.rounds})
        else:
            measure(report, **usual)

    return run


def _languages(report: Report, asked: argparse.Namespace) -> None:
    _part(
        partial(languages.measure, names=asked.language),
        usual={"rounds": 5, "calls": 4_000, "keys": 5_000, "optimized": True},
        smoke={"rounds": 1, "calls": 64, "keys": 20, "optimized": False},
    )(report, asked)


def _peers(report: Report, asked: argparse.Namespace) -> None:
    _part(
        peers.measure,
        usual={"rounds": 7, "calls": 4_000, "subjects": 256, "build": asked.only == "peers"},
        smoke={"rounds": 1, "calls": 64, "subjects": 8, "build": False},
    )(report, asked)


def _of_large_store(measure: Callable[[Report, scale_servers.Sizes], None]) -> Run:
    def run(report: Report, asked: argparse.Namespace) -> None:
        usual = scale_servers.Sizes(keys=asked.keys)
        rounds = asked.rounds or usual.rounds
        measure(report, scale_servers.SMOKE if asked.smoke else replace(usual, rounds=rounds))

    return run


def _import(report: Report, asked: argparse.Namespace) -> None:
    _part(
        imports.measure,
        usual={"rounds": 3, "keys": asked.keys},
        smoke={"rounds": 1, "keys": 2_000},
    )(report, asked)


_FEW: Final = fence.Renewing(holders=20, seconds=3.0)
ALONE: Final = frozenset({"listings"})
"""Parts of other parts. They are measured only if they are asked for."""
PARTS: Final[Mapping[str, Run]] = {
    "scopes": _part(scopes.measure, usual={"rounds": 11}, smoke={"rounds": 2}),
    "checks": _part(
        checks.measure,
        usual={"rounds": 11, "calls": 8_000},
        smoke={"rounds": 2, "calls": 160},
    ),
    "batching": _part(
        batching.measure,
        usual={"rounds": 7, "checks": 16_000},
        smoke={"rounds": 1, "checks": 320},
    ),
    "edge": _part(
        edge.measure,
        usual={"rounds": 11, "requests": 8_000},
        smoke={"rounds": 2, "requests": 160},
    ),
    "attack": _part(
        attack.measure,
        usual={"rounds": 3, "checks": 2_000},
        smoke={
            "rounds": 1,
            "checks": 50,
            "connections": [1],
            "names": ["rapid_reset", "ping_flood"],
        },
    ),
    "isolation": _part(
        isolation.measure,
        usual={"rounds": 3, "checks": 1_500, "revocations": 60},
        smoke={
            "rounds": 1,
            "checks": 50,
            "revocations": 3,
            "attacks": ["creates", "never_acknowledging_holders"],
        },
    ),
    "languages": _languages,
    "peers": _peers,
    "mutations": _part(
        mutations.measure,
        usual={"rounds": 5, "calls": 200},
        smoke={"rounds": 1, "calls": 8, "holders": 6},
    ),
    "scale": _of_large_store(scale.measure),
    "listings": _of_large_store(listings.measure),
    "import": _import,
    "worst": _part(
        worst.measure,
        usual={"rounds": 5, "key_count": 1_000},
        smoke={"rounds": 1, "key_count": 5},
    ),
    "fence": _part(
        fence.measure,
        usual={"rounds": 300, "renewing": fence.RENEWING},
        smoke={"rounds": 10, "renewing": _FEW},
    ),
    "leases": _part(
        fence.measure_leases,
        usual={"leases": fence.LEASES, "renewing": fence.RENEWING},
        smoke={"leases": fence.LEASES[:1], "renewing": _FEW},
    ),
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
        help="how many keys `import` imports, and the store of `scale` and `listings` has",
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
        if name == asked.only or (asked.only is None and name not in ALONE):
            measure(report, asked)
            # What was measured is kept if a later part fails.
            write()


if __name__ == "__main__":
    main()

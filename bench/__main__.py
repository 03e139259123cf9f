"""`python -m bench`: see `bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

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
    scale,
    scale_servers,
    scopes,
    worst,
)
from conformance.programs import LANGUAGES


def main() -> None:
    """Measures, and prints what was measured."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--smoke", action="store_true", help="a few calls only: shows that it works, no more"
    )
    parser.add_argument(
        "--only",
        choices=[
            "attack",
            "batching",
            "checks",
            "edge",
            "fence",
            "import",
            "isolation",
            "languages",
            "mutations",
            "scale",
            "worst",
        ],
        help="one part of it",
    )
    parser.add_argument(
        "--language",
        action="append",
        choices=["python", *LANGUAGES],
        help="with --only languages: this one, and others if repeated; all, if not given",
    )
    parser.add_argument(
        "--plot", type=Path, help="draw what the length of the lease trades, into this file"
    )
    parser.add_argument(
        "--keys",
        type=int,
        default=1_000_000,
        help="how many keys `import` imports, and the large store of `scale` has",
    )
    parser.add_argument("--report", type=Path, help="write what `scale` measures into this file")
    asked = parser.parse_args()
    if asked.smoke:
        print("A smoke run: the numbers mean nothing.")
    smoke = asked.smoke
    if asked.only in (None, "checks"):
        scopes.measure(rounds=2 if smoke else 11)
        checks.measure(rounds=2 if smoke else 11, calls=160 if smoke else 8_000)
    if asked.only in (None, "batching"):
        batching.measure(rounds=1 if smoke else 7, checks=320 if smoke else 16_000)
    if asked.only in (None, "edge"):
        edge.measure(rounds=2 if smoke else 11, requests=160 if smoke else 8_000)
    if asked.only in (None, "attack"):
        if smoke:
            attack.measure(
                rounds=1, checks=50, connections=[1], names=["rapid_reset", "ping_flood"]
            )
        else:
            attack.measure(rounds=3, checks=2_000)
    if asked.only in (None, "isolation"):
        if smoke:
            few = ["creates", "never_acknowledging_holders"]
            isolation.measure(rounds=1, checks=50, revocations=3, attacks=few)
        else:
            isolation.measure(rounds=3, checks=1_500, revocations=60)
    if asked.only in (None, "languages"):
        if smoke:
            languages.measure(asked.language, rounds=1, calls=64, keys=20, optimized=False)
        else:
            languages.measure(asked.language, rounds=5, calls=4_000, keys=5_000, optimized=True)
    if asked.only in (None, "mutations"):
        if smoke:
            mutations.measure(rounds=1, calls=8, holders=6)
        else:
            mutations.measure(rounds=5, calls=200)
    if asked.only in (None, "scale"):
        sizes = scale_servers.SMOKE if smoke else scale_servers.Sizes(keys=asked.keys)
        scale.measure(sizes, report=asked.report)
    if asked.only in (None, "import"):
        imports.measure(keys=2_000 if smoke else asked.keys)
    if asked.only in (None, "worst"):
        worst.measure(rounds=1 if smoke else 5, key_count=5 if smoke else 1_000)
    if asked.only in (None, "fence"):
        fence.measure(rounds=10 if smoke else 300, plot=asked.plot)


if __name__ == "__main__":
    main()

"""`python -m bench`: see `bench`."""

from __future__ import annotations

import argparse

from bench import checks, edge, scopes


def main() -> None:
    """Measures, and prints what was measured."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--smoke", action="store_true", help="a few calls only: shows that it works, no more"
    )
    smoke = parser.parse_args().smoke
    if smoke:
        print("A smoke run: the numbers mean nothing.")
    scopes.measure(rounds=2 if smoke else 11)
    checks.measure(rounds=2 if smoke else 11, calls=160 if smoke else 8_000)
    edge.measure(rounds=2 if smoke else 11, requests=160 if smoke else 8_000)


if __name__ == "__main__":
    main()

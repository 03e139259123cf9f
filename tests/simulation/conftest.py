"""Which scenarios are told: `pytest tests/simulation --seed 7` tells one, and says how it went."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="tell this scenario of the simulation alone")
    parser.addoption("--seeds", type=int, help="how many scenarios of the simulation to tell")

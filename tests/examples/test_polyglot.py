"""The example of services in three languages, as `make demo-polyglot` runs it."""

from __future__ import annotations

import os

import pytest

from examples.polyglot.build import build, missing_tool
from examples.polyglot.demo import show

pytestmark = pytest.mark.slow


def test_services_in_three_languages_accept_nothing_once_the_revocation_is_answered() -> None:
    tool = missing_tool()
    if tool and "CI" not in os.environ:
        pytest.skip(f"the services cannot be built without {tool}")
    report = show(build())

    names = [one.service for one in report.watched]
    assert names == ["orders (Go)", "stock (Python)", "deliveries (TypeScript)"]
    assert report.handled_by == [*names, names[0]], "each calls the next one with the caller's key"
    assert report.chain_refused
    for one in report.watched:
        assert any(began < report.began for began in one.accepts), one.service
        assert not any(began >= report.answered for began in one.accepts), one.service
        assert any(refused > report.answered for refused in one.refusals), one.service
        assert one.from_memory > 0, f"{one.service} has not answered from its cache"

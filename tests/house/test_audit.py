"""An audit that could not look is not a clean one, and does not fail a build either."""

import json

from tools.audit import findings

CLEAN = {"name": "grpcio", "version": "1.85.1", "vulns": []}
UNKNOWN = {"name": "uvloop", "skip_reason": "not found"}
VULNERABLE = {
    "name": "pyyaml",
    "version": "5.3",
    "vulns": [{"id": "EXAMPLE-1", "fix_versions": ["5.4"], "aliases": [], "description": ""}],
}


def report(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_a_known_vulnerability_fails_and_says_what_mends_it() -> None:
    found = findings(report(CLEAN, VULNERABLE))

    assert found.exit_code == 1
    assert "pyyaml 5.3: EXAMPLE-1, mended in 5.4" in str(found)


def test_a_clean_audit_passes() -> None:
    found = findings(report(CLEAN))

    assert (found.exit_code, found.audited) == (0, 1)
    assert "NOT AUDITED" not in str(found)


def test_packages_without_advisories_are_named() -> None:
    assert "NOT AUDITED: uvloop." in str(findings(report(CLEAN, UNKNOWN)))


def test_an_audit_of_nothing_says_so() -> None:
    for nothing in ("", report(UNKNOWN)):
        found = findings(nothing)

        assert found.exit_code == 0
        assert "NOT AUDITED" in str(found)

"""Looks for known vulnerabilities in a lock, and says so when it could not look.

`pip-audit` ends well when its source of advisories knows nothing of a package, and badly
when it cannot reach the source at all. Behind a mirror both mean the same: nothing was
looked at. That must neither fail a build nor pass for a clean result.
"""

import json
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Findings:
    """What an audit came to: packages looked at, packages not, and what is known of them."""

    audited: int
    unaudited: tuple[str, ...]
    vulnerabilities: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """Only what is known to be vulnerable fails a build."""
        return 1 if self.vulnerabilities else 0

    def __str__(self) -> str:
        lines = [f"VULNERABLE: {vulnerability}" for vulnerability in self.vulnerabilities]
        if not self.audited:
            lines.append("NOT AUDITED: no advisories could be had from this network.")
        elif self.unaudited:
            lines.append(f"NOT AUDITED: {', '.join(self.unaudited)}.")
        lines.append(
            f"{self.audited} packages audited, {len(self.unaudited)} not, "
            f"{len(self.vulnerabilities)} known vulnerabilities."
        )
        return "\n".join(lines)


def findings(report: str) -> Findings:
    """Reads the JSON of `pip-audit`; no report at all means that nothing was audited."""
    try:
        packages = json.loads(report)["dependencies"]
    except json.JSONDecodeError:
        return Findings(audited=0, unaudited=(), vulnerabilities=())
    return Findings(
        audited=sum("skip_reason" not in package for package in packages),
        unaudited=tuple(package["name"] for package in packages if "skip_reason" in package),
        vulnerabilities=tuple(
            f"{package['name']} {package['version']}: {known['id']}, "
            f"mended in {', '.join(known['fix_versions']) or 'no version'}"
            for package in packages
            for known in package.get("vulns", ())
        ),
    )


def main(lock: str) -> int:
    """Audits a lock with hashes and prints what was found."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--requirement", lock),
            *("--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    found = findings(run.stdout)
    if not run.stdout:
        print(run.stderr.strip().rpartition("\n")[2])
    print(found)
    return found.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""House rules that no linter knows, checked on every tracked file.

A file must not depend on one machine or one network: no address of a package registry
(the installer names it, and the locks carry hashes), no path of a home directory.
And a link in the documentation must lead somewhere.

It uses the standard library alone, so that it can run before anything is installed.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

# In pieces, or this file would break its own rule.
REGISTRY_HOSTS = tuple(
    ".".join(labels)
    for labels in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("maven", "org"),
        ("maven", "apache", "org"),
        ("crates", "io"),
        ("deb", "debian", "org"),
        ("docker", "io"),
    )
)
_HOST = re.compile("|".join(re.escape(host) + r"(?![\w-])" for host in REGISTRY_HOSTS))
_HOME = re.compile(r"(?<![\w./}-])/(?:home|Users|root|work)/[\w.-]+")
_FENCE = re.compile(r"^\s*(```|~~~)")
_CODE_SPAN = re.compile(r"`[^`]*`")
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")


@dataclass(frozen=True)
class Fault:
    """A line that breaks a rule."""

    path: Path
    line: int
    rule: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}"


def faults_of_text(path: Path, text: str) -> Iterator[Fault]:
    """Yields what ties a file, of whatever kind, to one network or machine."""
    for number, line in enumerate(text.splitlines(), start=1):
        if host := _HOST.search(line):
            yield Fault(path, number, f"names the package registry {host.group()}")
        if home := _HOME.search(line):
            yield Fault(path, number, f"names the path {home.group()}, which one machine has")


def faults_of_links(root: Path, path: Path, text: str) -> Iterator[Fault]:
    """Yields the links of a Markdown file that lead to no file, or to no heading of it."""
    for number, line in _lines_of_prose(text):
        for target in _LINK.findall(_CODE_SPAN.sub("", line)):
            if _ELSEWHERE.match(target):
                continue
            name, _, anchor = unquote(target).partition("#")
            file = (root / path.parent / name).resolve() if name else root / path
            if not file.exists():
                yield Fault(path, number, f"links to {name}, which does not exist")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
                yield Fault(path, number, f"links to #{anchor}, which is no heading there")


def anchors(markdown: str) -> set[str]:
    """The names by which a Markdown page's headings can be linked to, as GitHub makes them."""
    found: set[str] = set()
    for _, line in _lines_of_prose(markdown):
        if heading := _HEADING.match(line):
            words = re.sub(r"[^\w\s-]", "", heading.group(1).lower())
            slug = re.sub(r"\s", "-", words)
            again = next(n for n in range(len(found) + 1) if _numbered(slug, n) not in found)
            found.add(_numbered(slug, again))
    return found


def _numbered(slug: str, number: int) -> str:
    return f"{slug}-{number}" if number else slug


def _lines_of_prose(markdown: str) -> Iterator[tuple[int, str]]:
    fenced = False
    for number, line in enumerate(markdown.splitlines(), start=1):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield number, line


def faults(root: Path, paths: list[Path]) -> Iterator[Fault]:
    """Yields every fault of the files, given relative to the root; binary files have none."""
    for path in paths:
        try:
            text = (root / path).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        yield from faults_of_text(path, text)
        if path.suffix == ".md":
            yield from faults_of_links(root, path, text)


def tracked_files(root: Path) -> list[Path]:
    """The files that git knows, or would know after `git add`."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sorted(Path(name) for name in listing.split("\0") if name)


def main() -> int:
    """Checks the repository that the current directory is the root of."""
    root = Path.cwd()
    files = tracked_files(root)
    found = list(faults(root, files))
    for fault in found:
        print(fault)
    print(f"{len(files)} files, {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

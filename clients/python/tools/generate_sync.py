"""Generates the synchronous client from the asynchronous one.

    python clients/python/tools/generate_sync.py            writes the files
    python clients/python/tools/generate_sync.py --check    fails if they would change

It rewrites tokens, and words inside texts and comments: `await` and `async` go away,
and names change as in `NAMES`. What differs by more than that, the transports, is
written by hand on both sides. Needs ruff for the layout.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tokenize
from io import StringIO
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parent.parent / "src" / "keyfence"
GENERATED: Final = ("client.py", "listing.py")

NAMES: Final = {
    "AsyncBatcher": "Batcher",
    "AsyncClient": "Client",
    "AsyncIterator": "Iterator",
    "AsyncListing": "Listing",
    "AsyncToken": "Token",
    "AsyncTransport": "Transport",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "_async": "_sync",
}
# A type that is not a matter of single tokens.
_TYPES: Final = {"Awaitable[Page[Item]]": "Page[Item]"}
_WORDS: Final = re.compile("|".join(rf"(?<!\w){name}(?!\w)" for name in NAMES))
_DROPPED: Final = ("async", "await")

_HEADER: Final = "# Generated from keyfence/_async/{name} by tools/generate_sync.py. Do not edit.\n"


def synchronous(source: str) -> str:
    """The source without its asynchrony."""
    for asynchronous, plain in _TYPES.items():
        source = source.replace(asynchronous, plain)
    written = StringIO()
    line, column = 1, 0
    lines = source.splitlines(keepends=True)
    skips_space = False
    for token in tokenize.generate_tokens(StringIO(source).readline):
        between = _between(lines, (line, column), token.start)
        written.write("" if skips_space else between)
        line, column = token.end
        skips_space = token.type == tokenize.NAME and token.string in _DROPPED
        if not skips_space:
            written.write(_rewritten(token))
    return written.getvalue()


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]] if start[0] <= len(lines) else ""
    rest = lines[start[0] - 1][start[1] :] + "".join(lines[start[0] : end[0] - 1])
    return rest + (lines[end[0] - 1][: end[1]] if end[0] <= len(lines) else "")


def _rewritten(token: tokenize.TokenInfo) -> str:
    if token.type == tokenize.NAME:
        return NAMES.get(token.string, token.string)
    if token.type in (tokenize.STRING, tokenize.COMMENT, _FSTRING_MIDDLE):
        return _WORDS.sub(lambda word: NAMES[word[0]], token.string)
    return token.string


# Since Python 3.12 an f-string comes in parts.
_FSTRING_MIDDLE: Final = getattr(tokenize, "FSTRING_MIDDLE", -1)


def generated(name: str) -> str:
    """The synchronous twin of a file, laid out."""
    source = (PACKAGE / "_async" / name).read_text(encoding="utf-8")
    rewritten = _HEADER.format(name=name) + synchronous(source)
    path = PACKAGE / "_sync" / name
    # Import order, the imports and loops that only the asynchrony needed, then the layout.
    fixes = ["check", "--isolated", "--select=F401,UP028", "--fix", "--unsafe-fixes", "--quiet"]
    for arguments in (fixes, ["check", "--select=I", "--fix", "--quiet"], ["format", "--quiet"]):
        rewritten = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, f"--stdin-filename={path}", "-"],
            input=rewritten,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return rewritten


def main() -> int:
    """Writes or checks the files; returns the exit code."""
    parser = argparse.ArgumentParser(description="Generate the synchronous client.")
    parser.add_argument("--check", action="store_true", help="only say whether files drifted")
    check = parser.parse_args().check
    drifted = []
    for name in GENERATED:
        path = PACKAGE / "_sync" / name
        text = generated(name)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            drifted.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    for name in drifted:
        sys.stdout.write(f"{name}: {'differs from its source' if check else 'written'}\n")
    return 1 if check and drifted else 0


if __name__ == "__main__":
    sys.exit(main())

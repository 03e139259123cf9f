"""Where in a file a problem of its declaration is.

The domain and the API name a place by its path, such as `scopes[vps:write].implies[0]`;
a person wants the line. This module knows the paths' grammar and the file's short forms,
and not what any of it means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from keyfence_server.adapters.keyspace_files.source_text import Fault, Source, Span
from keyfence_server.adapters.keyspace_files.yaml_source import Part
from keyfence_server.domain.errors import Problem

_STEP: Final = re.compile(r"\.[^.\[]+|\[[^\]]*\]")
_SCOPE_OF_LEVEL: Final = re.compile(r"scopes\[(?P<resource>.*):(?P<level>[^:\]]*)\]")

# Where the API's names differ from the file's.
_RENAMED: Final = (
    (re.compile(r"^keyspace\.(?=.)"), ""),
    (re.compile(r"^name$"), "keyspace"),
    (re.compile(r"^format\.templates_by_key_type"), "format.templates"),
)


def fault_at(source: Source, root: Part, problem: Problem) -> Fault:
    """What is wrong, at its place in the file."""
    path = problem.path
    for pattern, replacement in _RENAMED:
        path = pattern.sub(replacement, path)
    # A path that ends in a thing's name is about the thing, not about its description.
    about_the_name = path.endswith("]") or problem.is_of_name
    span, rest = _locate(root, path, about_the_name)
    if rest and (level := _SCOPE_OF_LEVEL.match(path)):
        # The scopes of a resource's levels have no place under `scopes`.
        of_level = f"resources[{level['resource']}].levels[{level['level']}]"
        span, rest = _locate(root, of_level, about_the_name)
    message = f"{path}: {problem.message}" if rest or not path else problem.message
    return Fault(source, span, message)


def _locate(root: Part, path: str, about_the_name: bool) -> tuple[Span | None, str]:
    """The place of what a path names, and the rest of the path, which names nothing.

    What is written in a short form, so as text or a list instead of a mapping, lacks
    steps that the path has; they are passed over.
    """
    part, span, rest = root, None, f".{path}"
    while rest:
        step = next(_steps(part, rest), None)
        if step is not None:
            rest = rest[step.length :]
            part = step.leads_to
            is_text = not isinstance(part.data, dict | list)
            span = part.span if is_text and not (about_the_name and not rest) else step.name_span
        elif not isinstance(part.data, dict) and (passed := _STEP.match(rest)):
            rest = rest[passed.end() :]
        else:
            break
    return span, rest


@dataclass(frozen=True, slots=True)
class _Step:
    """How the start of a path leads on: by so many characters of it, to this part."""

    length: int
    leads_to: Part
    name_span: Span


def _steps(part: Part, path: str) -> Iterator[_Step]:
    """The steps that the start of the path could mean here, the longest first: a name may
    itself hold what looks like the end of a step."""
    for end in _ends_of_names(path):
        name = path[1:end]
        length = end + 1 if path[0] == "[" else end
        if (entry := part.entries.get(name)) is not None:
            yield _Step(length, entry.value, entry.name_span)
        elif name.isascii() and name.isdigit() and int(name) < len(part.items):
            item = part.items[int(name)]
            yield _Step(length, item, item.span)
        else:
            for item in part.items:
                if item.data == name:
                    yield _Step(length, item, item.span)


def _ends_of_names(path: str) -> Iterator[int]:
    """Where the name that the path starts with could end, the last place first."""
    for end in range(len(path), 0, -1):
        if path[0] == "[":
            if path[end - 1] == "]" and path[end : end + 1] in _NEXT_STEP:
                yield end - 1
        elif path[end : end + 1] in _NEXT_STEP:
            yield end


_NEXT_STEP: Final = ("", ".", "[")

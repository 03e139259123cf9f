"""Where in a file a problem of its declaration is.

The domain and the API name a place by its path in the declaration. A person wants the
line. A file may write a thing in short, so a path can have steps that the file lacks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from keyfence_server.adapters.keyspace_files.source_text import Fault, Source, Span
from keyfence_server.adapters.keyspace_files.yaml_source import YamlDocument
from keyfence_server.domain.declarations import KeyspaceDeclaration
from keyfence_server.domain.documents import path_in_document
from keyfence_server.domain.errors import Name, Path, Problem, path_text


def fault_at(source: Source, document: YamlDocument, problem: Problem) -> Fault:
    """What is wrong, at its place in the file."""
    path = problem.path if problem.is_of_name else path_in_document(problem.path)
    span, rest = _locate(document, path, is_of_name=problem.is_of_name)
    if rest and path[0] == "scopes" and len(path) > 1:
        # The scopes of a resource's levels have no place under `scopes`.
        resource, _, level = str(path[1]).rpartition(":")
        of_level = ("resources", Name(resource), "levels", Name(level))
        level_span, rest_of_level = _locate(document, of_level, is_of_name=True)
        if not rest_of_level:
            span, rest = level_span, ()
    message = f"{path_text(path)}: {problem.message}" if rest else problem.message
    return Fault(source, span, message)


def _locate(document: YamlDocument, path: Path, *, is_of_name: bool) -> tuple[Span | None, Path]:
    """The place of what a path names, and the steps that the file does not have.

    In what is written in short, as a text or a list instead of a mapping, steps are passed over.
    """
    here: Path = ()
    data = document.data
    is_last_step = False
    for index, step in enumerate(path):
        found = _child(data, step)
        is_last_step = found is not None
        if found is not None:
            here, data = (*here, found), data[found]  # type: ignore[index]
        elif isinstance(data, Mapping):
            return _span(document, here, is_of_name=False), path[index:]
    # A path that ends in an item's name is about the name, not about the item's description.
    is_of_name = is_of_name or isinstance(path[-1] if path else None, Name)
    return _span(document, here, is_of_name=is_of_name and is_last_step), ()


def _child(data: object, step: str | int) -> str | int | None:
    """The step as the data has it; None if the data has no such part."""
    if isinstance(data, Mapping):
        return step if step in data else None
    if isinstance(data, list) and isinstance(step, int):
        return step if step < len(data) else None
    if isinstance(data, list):
        return next((index for index, item in enumerate(data) if item == step), None)
    return None


def _span(document: YamlDocument, path: Path, *, is_of_name: bool) -> Span | None:
    if not path:
        return None
    place = document.places[path]
    if place.name is not None and (is_of_name or place.kind in {dict, list}):
        return place.name
    return place.value


def paths_by_text(declaration: KeyspaceDeclaration) -> dict[str, Path]:
    """Every path of a declaration, by the text that the API writes for it."""
    return {path_text(path): path for path in _paths(declaration, ())}


def _paths(value: Any, path: Path) -> Iterator[Path]:
    yield path
    if dataclasses.is_dataclass(value):
        for one in dataclasses.fields(value):
            yield from _paths(getattr(value, one.name), (*path, one.name))
    elif isinstance(value, Mapping):
        yield from ((*path, Name(name)) for name in value)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _paths(item, (*path, _step(item, index)))


def _step(item: Any, index: int) -> str | int:
    """The step to an item of a list: its name, which is its first field, or its index."""
    if not dataclasses.is_dataclass(item):
        return index
    return Name(getattr(item, dataclasses.fields(item)[0].name))

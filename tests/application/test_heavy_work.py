"""Heavy work stays off the event loop, within a budget for each keyspace."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from application.authority import ACME, OTHER, Authority, refused
from keyfence_server import process
from keyfence_server.adapters.sql import compiled_keyspaces
from keyfence_server.application import apply_keyspace
from keyfence_server.application.affected_keys import MAX_BYTES
from keyfence_server.application.apply_keyspace import MAX_LIST_BYTES, ApplyKeyspace
from keyfence_server.application.heavy_work import MAX_WAITING, SMALL, HeavyWork
from keyfence_server.domain.declarations import ScopeDeclaration
from keyfence_server.domain.scopes import size_of
from keyfence_server.process import let_the_event_loop_go_first

MANY = tuple(ScopeDeclaration(name=f"{'s' * 100}{n}:read") for n in range(3_000))


async def test_only_small_work_is_done_on_the_event_loop() -> None:
    heavy = HeavyWork()
    here = threading.get_ident()
    assert await heavy.run("acme", SMALL, threading.get_ident) == here
    assert await heavy.run("acme", SMALL + 1, threading.get_ident) != here


async def test_one_piece_runs_at_a_time_and_keyspaces_take_turns() -> None:
    heavy, order, running = HeavyWork(), list[str](), list[int]()
    go = threading.Event()

    def work(name: str) -> None:
        running.append(1)
        assert len(running) == 1
        go.wait(30)
        order.append(name)
        running.pop()

    names = ["a1", "a2", "a3", "b1"]
    tasks = [
        asyncio.create_task(heavy.run(name[0], SMALL + 1, partial(work, name))) for name in names
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks)
    assert order[0] == "a1"
    assert order.index("b1") <= 2


async def test_a_keyspace_has_so_many_places_and_others_have_theirs() -> None:
    heavy, go = HeavyWork(), threading.Event()
    tasks = [
        asyncio.create_task(heavy.run("greedy", SMALL + 1, lambda: go.wait(30)))
        for _ in range(MAX_WAITING)
    ]
    await asyncio.sleep(0)
    with refused("LIMIT_REACHED", limit="heavy_work_per_keyspace"):
        await heavy.run("greedy", SMALL + 1, lambda: None)
    # A caller that goes away gives its place up only when its thread has ended.
    tasks[0].cancel()
    with refused("LIMIT_REACHED"):
        await heavy.run("greedy", SMALL + 1, lambda: None)
    other = asyncio.create_task(heavy.run("victim", SMALL + 1, lambda: "done"))
    go.set()
    assert await other == "done"
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await heavy.run("greedy", SMALL + 1, lambda: "done") == "done"


async def test_a_large_keyspace_is_compiled_off_the_event_loop_and_once(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, threads = threading.get_ident(), list[int]()

    def noted(function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            threads.append(threading.get_ident())
            return function(*arguments, **named)

        return call

    for module, name in (
        (apply_keyspace, "compile_keyspace"),
        (apply_keyspace, "_difference"),
        (compiled_keyspaces, "row_to_keyspace"),
    ):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    await authority.make(scopes=["*"])
    await authority.declare(ACME, scopes=(*ACME.scopes, *MANY))
    assert threads
    assert loop not in threads
    await authority.make()
    read = len(threads)
    for _ in range(3):
        await authority.make()
    assert len(threads) == read


async def test_a_long_diff_is_cut_by_bytes_and_says_so(authority: Authority) -> None:
    """What was made must not be reported as failed because its answer is too long."""
    keys = [await authority.make(scopes=["*"]) for _ in range(3)]
    declaration = replace(ACME, scopes=(*ACME.scopes, *MANY))
    done = await authority.apply_keyspace.apply(authority.root, declaration)
    diff = done.value.diff
    assert diff.is_cut
    assert 0 < size_of(diff.added_scopes) <= MAX_LIST_BYTES
    assert diff.affected_key_count == len(keys)
    listed = diff.affected_keys
    assert 0 < len(listed) < len(keys)
    assert sum(size_of(one.gained_scopes) for one in listed) <= MAX_BYTES
    assert done.is_committed
    small = await authority.apply_keyspace.apply(authority.root, replace(OTHER, description="x"))
    assert not small.value.diff.is_cut


async def test_a_plan_for_a_keyspace_that_has_changed_meanwhile_is_made_anew(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_case = authority.apply_keyspace
    plan, calls = ApplyKeyspace._plan, list[int]()

    async def overtaken(*arguments: Any) -> Any:
        made = await plan(*arguments)
        calls.append(1)
        if len(calls) == 1:
            await use_case.apply(authority.root, replace(ACME, description="theirs"))
        return made

    monkeypatch.setattr(ApplyKeyspace, "_plan", overtaken)
    done = await use_case.apply(authority.root, replace(ACME, display_name="mine"))
    assert len(calls) == 3
    assert done.value.diff.changed_fields == ("description", "display_name")
    stored = await authority.read_keyspaces.get(authority.root, "acme")
    assert (stored.declaration.display_name, stored.declaration.description) == ("mine", "")


async def test_a_key_type_that_a_key_got_meanwhile_is_not_taken_away(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_case = authority.apply_keyspace
    plan = ApplyKeyspace._plan

    async def overtaken(*arguments: Any) -> Any:
        made = await plan(*arguments)
        await authority.make(key_type="publishable")
        return made

    monkeypatch.setattr(ApplyKeyspace, "_plan", overtaken)
    with refused("STILL_IN_USE"):
        await use_case.apply(authority.root, replace(ACME, key_types=ACME.key_types[:1]))


async def test_the_event_loop_has_its_turn_while_a_thread_works() -> None:
    """A check needs the interpreter several times, and Python's own interval is ten times as
    long."""
    before = sys.getswitchinterval()
    try:
        let_the_event_loop_go_first()
        assert sys.getswitchinterval() <= 0.001
    finally:
        sys.setswitchinterval(before)
    assert "let_the_event_loop_go_first()" in inspect.getsource(process.run)

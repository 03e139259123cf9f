"""What a store sends to its database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import event

from keyfence_server.adapters.sql import SqlStore
from keyfence_server.adapters.sql.conversation import Conversation, DirectConversation
from keyfence_server.adapters.sql.ready import ReadyStatement


@dataclass
class Statements:
    """What was sent to the database, each statement with its values."""

    sent: list[tuple[str, Any]] = field(default_factory=list)

    def counted(self) -> Counter[str]:
        """How often each kind of statement was sent."""
        return Counter(statement.split()[0] for statement, _ in self.sent)


@contextmanager
def watching(store: SqlStore) -> Iterator[Statements]:
    """Takes note of the statements of a store, and not of servers that other tests have started.

    BEGIN, COMMIT and ROLLBACK are not among them.
    """
    engines = store._engines
    watched = {one.sync_engine for one in (engines.reading, engines.writing, engines.direct)}
    found = Statements()

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found.sent.append((statement, parameters))

    def note_ready(
        conversation: Conversation,
        statement: ReadyStatement,
        rows: Sequence[Mapping[str, Any]],
    ) -> None:
        if conversation.connection.engine.sync_engine in watched:
            ready = statement.on(conversation.dialect)
            found.sent.append((ready.text, ready.values(rows[0])))

    of = DirectConversation
    fetch, write, write_each = Conversation.fetch, of.write, of.write_each

    async def noted_fetch(self: Conversation, statement: Any, values: Any = None) -> Any:
        note_ready(self, statement, [values or {}])
        return await fetch(self, statement, values)

    async def noted_write(self: DirectConversation, statement: Any, values: Any = None) -> int:
        note_ready(self, statement, [values or {}])
        return await write(self, statement, values)

    async def noted_write_each(self: DirectConversation, statement: Any, rows: Any) -> None:
        if len(rows) > 1:
            note_ready(self, statement, rows)
        await write_each(self, statement, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Conversation, "fetch", noted_fetch)
        patch.setattr(DirectConversation, "write", noted_write)
        patch.setattr(DirectConversation, "write_each", noted_write_each)
        for engine in watched:
            event.listen(engine, "before_cursor_execute", note)
        try:
            yield found
        finally:
            for engine in watched:
                event.remove(engine, "before_cursor_execute", note)

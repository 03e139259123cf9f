"""What a store sends to its database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import event

from keyfence_server.adapters.sql import SqlStore
from keyfence_server.adapters.sql.conversation import Conversation, DirectConversation


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

    BEGIN, with the lock of the head, COMMIT and ROLLBACK are not among them.
    """
    engines = store._engines
    watched = {one.sync_engine for one in (engines.reading, engines.writing, engines.direct)}
    found = Statements()

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found.sent.append((statement, parameters))

    def note_direct(conversation: Conversation, statement: str, values: Any) -> None:
        if conversation.connection.engine.sync_engine in watched:
            found.sent.append((statement, values))

    of = DirectConversation
    fetch, fetch_text = Conversation.fetch, of.fetch_text
    write_values, write_each = of.write_values, of.write_each

    async def noted_fetch(self: Conversation, statement: Any, values: Any = None) -> Any:
        ready = statement.on(self.dialect)
        note_direct(self, ready.text, ready.values(values or {}))
        return await fetch(self, statement, values)

    async def noted_fetch_text(self: DirectConversation, statement: str, values: Any) -> Any:
        note_direct(self, statement, values)
        return await fetch_text(self, statement, values)

    async def noted_write(self: DirectConversation, statement: Any, values: Any) -> int:
        note_direct(self, statement.on(self.dialect).text, values)
        return await write_values(self, statement, values)

    async def noted_write_each(self: DirectConversation, statement: Any, rows: Any) -> None:
        if len(rows) > 1:
            ready = statement.on(self.dialect)
            note_direct(self, ready.text, ready.values(rows[0]))
        await write_each(self, statement, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Conversation, "fetch", noted_fetch)
        patch.setattr(DirectConversation, "fetch_text", noted_fetch_text)
        patch.setattr(DirectConversation, "write_values", noted_write)
        patch.setattr(DirectConversation, "write_each", noted_write_each)
        for engine in watched:
            event.listen(engine, "before_cursor_execute", note)
        try:
            yield found
        finally:
            for engine in watched:
                event.remove(engine, "before_cursor_execute", note)

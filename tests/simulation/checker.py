"""Whether an answer was right.

The checker knows the order in which calls began and returned, and what the database
committed. A check sees a key with all that it was delegated from, and its keyspace. Each
must be as it was at some moment between the newest mutation whose fenced OK came before
the check began, and the check's end. It need not be the same moment for both: nothing is promised
about changes while a check is under way.
"""

from __future__ import annotations

from simulation.database import Database, Record
from simulation.subjects import keyspace_allows, line_allows


class Violation(AssertionError):
    """What must never happen has happened."""


class Stale(Violation):
    """A check saw what was before a fenced OK."""


class Slow(Violation):
    """A mutation took longer than its bound, or a laggard goes on being granted leases."""


class Checker:
    """Keeps what was promised, and holds answers against it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._promised: list[Record] = []
        self.answers = 0

    def promise(self, found: Record, revision: int) -> None:
        """A mutation is OK at this revision: every check from now on sees it, or what came
        after it.

        Args:
            found: the newest commit that the mutation has found. The same number can be
                used again after a failover, and is then another revision.
        """
        made = [one for one in self._database.records[found.number :] if one.revision == revision]
        self._promised += made[:1]

    def promises(self) -> int:
        """How many there are: taken down when a check begins."""
        return len(self._promised)

    def hold(self, number: int, answer: bool, promises: int) -> Record | None:
        """The record that an answer is older than, if it is older than it may be.

        Args:
            number: of the key that was checked.
            promises: how many there were when the check began.
        """
        self.answers += 1
        records = self._database.records
        kept = (one.number for one in self._promised[:promises] if not one.lost)
        oldest = max(kept, default=0)
        possible = [one.contents for one in records[oldest:]]
        lines = {line_allows(number, contents) for contents in possible}
        keyspaces = {keyspace_allows(contents) for contents in possible}
        is_right = (True in lines and True in keyspaces) if answer else False in lines | keyspaces
        return None if is_right else records[oldest]

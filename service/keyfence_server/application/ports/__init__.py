"""What the use cases need from the world, and what each port promises.

Every docstring in this package is a contract: an adapter keeps it, and the conformance
suite for stores tests it. Times are aware, in UTC, to the microsecond. Ids, names and
digests compare byte by byte, never by a collation that folds or trims.
"""

from __future__ import annotations

from keyfence_server.application.ports.audit import (
    AuditCut,
    AuditEvent,
    ChainEnd,
    CredentialId,
    EventFilter,
    RecordedEvent,
)
from keyfence_server.application.ports.changes import Change, ChangeKind
from keyfence_server.application.ports.clock import Clock
from keyfence_server.application.ports.credentials import (
    PasswordHashes,
    SessionClaims,
    SessionTokens,
    SlowHashes,
)
from keyfence_server.application.ports.fact_source import (
    FactSnapshot,
    FactSource,
    FactStore,
    FoundKey,
    LoadedKeys,
)
from keyfence_server.application.ports.fence import Fence, FenceEnd, Revision
from keyfence_server.application.ports.retention import ROWS_AT_ONCE, ChainBroken, RetentionStore
from keyfence_server.application.ports.set_up import SetUp, UsesOfPeppers
from keyfence_server.application.ports.store import (
    NOTHING_WANTED,
    GrantedAlike,
    KeyCriteria,
    KeyFilter,
    KeySpan,
    NewDigest,
    SlowHash,
    Snapshot,
    Store,
    StoreProblem,
    StoreRefuses,
    StoreUnavailable,
    Transaction,
    Wanted,
    not_urgent,
)
from keyfence_server.application.ports.usage import MAX_USE_COUNT, KeyUse, NoteStore, UseToAdd

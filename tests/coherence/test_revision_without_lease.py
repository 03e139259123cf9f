"""What a sidecar without a lease says of the revision that its answers reflect."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from application.authority import Authority
from keyfence import rpcs
from keyfence.holder.clock import SystemBootClock
from keyfence.holder.lease import HolderLease
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.adapters.upstream.store import PresentedDigests, UpstreamStore
from keyfence_server.application.checks import Checks, CountedHere
from keyfence_server.application.heavy_work import HeavyWork
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.leased_facts import LeasedFacts, fresh_memory_per_question
from keyfence_server.convert.keys import key_of
from keyfence_server.convert.keyspaces import keyspace_of
from keyfence_server.domain.decisions import Question
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.reasons import Reason


class Upstream:
    """A server that answers at these revisions."""

    def __init__(self, facts: KeyFacts, *, keyspaces_at: int, key_at: int) -> None:
        self._facts = facts
        self._keyspaces_at = keyspaces_at
        self._key_at = key_at

    async def ask(self, rpc: object, _: object) -> Message:
        if rpc is rpcs.FETCH_FACTS:
            return messages.FetchFactsResponse(
                lineage=[key_of(self._facts)], revision=self._key_at, epoch="e", well_formed=True
            )
        return messages.FetchKeyspacesResponse(
            keyspaces=[keyspace_of(self._facts.keyspace)], revision=self._keyspaces_at, epoch="e"
        )


async def test_an_answer_without_a_lease_has_the_revision_that_it_reflects(
    authority: Authority,
) -> None:
    """It is asked upstream, so it is newer than what the sidecar had applied while it had a
    lease; and no newer than the older of the two things that it was made of."""
    made = await authority.make(scopes=["vps:read"])
    lease = HolderLease()
    lease.grant(lease.request(0.0), 2.0, 5, "e")
    for keyspaces_at, key_at, reflected in ((9, 12, 9), (12, 9, 9), (5, 5, 5)):
        upstream: Any = Upstream(made.facts, keyspaces_at=keyspaces_at, key_at=key_at)
        store = UpstreamStore(upstream, lease, HeavyWork())
        followed = FactCache(store)
        followed.start_at(5)
        source = LeasedFacts(followed, lease, SystemBootClock(), fresh_memory_per_question(store))
        checks = Checks(
            source,
            PresentedKeys(source, PresentedDigests()),
            authority.clock,
            CountedHere(authority.rate_limits),
            authority.notes,
        )
        question = Question(made.plaintext.reveal(), required_scopes=("vps:read",))
        verdict = await checks.answer(authority.root, question)
        assert verdict.reason is Reason.OK
        assert verdict.revision == reflected

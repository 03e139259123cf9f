"""What the keys of a span were granted."""

from __future__ import annotations

from datetime import timedelta

from keyfence_server.application.ports import GrantedAlike, KeySpan, Store
from keyfence_server.domain.keys import KeyState
from store_contract.harness import Topic
from support.builders import KEYSPACE, insert_keys, make_key
from support.clock import START


class SpanContract(Topic):
    """What the keys of a span were granted."""

    async def test_keys_are_counted_by_what_they_were_granted_and_found_by_it(
        self, store: Store
    ) -> None:
        """Keys of every kind that does not count stand between those that do."""
        few, many = ("vps:read",), ("dns:*", "vps:read")
        first = make_key(granted_scopes=few)
        inside = [
            first,
            make_key(granted_scopes=many),
            make_key(granted_scopes=few, key_type="publishable"),
            make_key(granted_scopes=few, expire_time=START + timedelta(seconds=1)),
            make_key(granted_scopes=few, state=KeyState.DISABLED),
        ]
        child = make_key(granted_scopes=few, parent_key_id=first.key_id)
        gone = [
            make_key(granted_scopes=few, state=KeyState.REVOKED, revoke_time=START),
            make_key(granted_scopes=few, expire_time=START),
            make_key(granted_scopes=few, keyspace="other"),
        ]
        beyond = make_key(granted_scopes=few)
        await insert_keys(store, *inside, child, *gone, beyond)
        every = KeySpan(KEYSPACE, START)
        async with store.snapshot() as snapshot:
            span = await snapshot.first_span(every, examined=len(inside) + 3)
            assert span.end == gone[1].key_id
            alike, delegated = await snapshot.count_grants(span)
            assert sorted(alike, key=lambda one: (one.granted_scopes, one.key_type)) == [
                GrantedAlike(many, "secret", 1),
                GrantedAlike(few, "publishable", 1),
                GrantedAlike(few, "secret", 3),
            ]
            assert delegated == 1
            found = await snapshot.list_granted(span, [few], limit=3)
            ids = [inside[number].key_id for number in (0, 2, 3)]
            assert [key.key_id for key in found] == ids
            found = await snapshot.list_granted(span, [few, many], limit=10)
            assert [key.key_id for key in found] == [key.key_id for key in inside]
            (found_child,) = await snapshot.list_granted(span, None, limit=10)
            assert found_child.key_id == child.key_id
            rest = KeySpan(KEYSPACE, START, after=span.end)
            assert await snapshot.first_span(rest, examined=2) == rest
            assert await snapshot.count_grants(rest) == ([GrantedAlike(few, "secret", 1)], 0)

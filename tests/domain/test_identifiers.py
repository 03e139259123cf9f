"""Ids that sort by age."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from domain.graphs import brief
from keyfence_server.domain.identifiers import new_event_id, new_key_id

moments = st.integers(86_400_000, 253_000_000_000_000).map(
    lambda milliseconds: datetime.fromtimestamp(milliseconds / 1000, UTC)
)


@brief
@given(moments, st.timedeltas(min_value=timedelta(milliseconds=2), max_value=timedelta(days=9)))
def test_an_id_made_later_sorts_later(moment: datetime, wait: timedelta) -> None:
    assert new_key_id(moment) < new_key_id(moment + wait)
    assert new_event_id(moment) < new_event_id(moment + wait)


@brief
@given(moments)
def test_ids_have_one_form_and_do_not_repeat_within_a_moment(moment: datetime) -> None:
    ids = {new_key_id(moment) for _ in range(50)}
    assert len(ids) == 50
    assert all(re.fullmatch(r"key_[0-9a-hjkmnp-tv-z]{26}", one) for one in ids)
    assert new_event_id(moment).startswith("evt_")

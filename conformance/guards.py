"""The guards of a holder. Each can be left out of it for a test, and must then be missed."""

from __future__ import annotations

from typing import Final

GUARDS: Final = (
    "count_from_sending",
    "wait_for_head",
    "forget_other_epoch",
    "discard_overtaken_fills",
    "apply_before_ack",
    "forget_unknown_changes",
    "refuse_gaps",
    "forget_on_new_stream",
)

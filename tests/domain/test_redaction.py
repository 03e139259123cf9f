"""What has the form of a key or of a session's token is hidden, and ids and names are not."""

from __future__ import annotations

import base64
import random

import pytest

from keyfence_server.domain.redaction import REDACTED, hide_keys, looks_like_a_key

# The end of a signature that was made at random. It has no run of 17 letters and digits.
SIGNATURE = "lGQimK8CxEBO-0n4k6pa6yYjFkIyC_e5FOol_ZzzeErGt67WMRLe_FV3aRmDG7Cg"


def test_a_signature_without_a_long_run_of_letters_and_digits_is_hidden() -> None:
    assert looks_like_a_key(SIGNATURE)
    assert hide_keys(f"request {SIGNATURE} was refused") == f"request {REDACTED} was refused"


def test_signatures_and_the_greater_part_of_them_are_hidden() -> None:
    random_bytes = random.Random(20_261_130)
    for _ in range(20_000):
        signature = base64.urlsafe_b64encode(random_bytes.randbytes(64)).decode().rstrip("=")
        assert hide_keys(signature) == REDACTED
        assert hide_keys(signature[-64:]) == REDACTED


@pytest.mark.parametrize(
    "text",
    [
        "key_01jd2k7v9x4m8r5t6w3y1z0abc",
        "9b2d7c1e-4f5a-4b6c-8d7e-0f1a2b3c4d5e",
        "01JD2K7V9X4M8R5T6W3Y1Z0ABC",
        "0123456789abcdef0123456789abcdef",
        "checkout-service_eu-west-1_blue-green_rollout-17_stage-3",
        "Billing-Service_Version-2_Region-West-1",
        "/keyfence.v1.AuthorizationService/BatchCheckScope",
    ],
)
def test_ids_and_names_are_shown(text: str) -> None:
    assert hide_keys(text) == text

"""The file of other programs' secrets: read by keyspace, and never said back."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from pydantic import SecretStr

from keyfence_server.adapters.files.secret_lines import MAX_IMPORT_SECRETS, parse_import_secrets
from keyfence_server.config import Settings
from keyfence_server.provisioning import CannotStart, provide_peppers

CANARY = base64.b64encode(b"the canary among the secrets").decode()


def test_secrets_are_read_by_keyspace() -> None:
    other = base64.b64encode(b"x").decode()
    text = f"# of the old program\n\nshop:{CANARY}\nother:{other}\nshop:{other}\n"
    assert parse_import_secrets(text) == {
        "shop": [b"the canary among the secrets", b"x"],
        "other": [b"x"],
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (CANARY, "line 1: not of the form KEYSPACE:BASE64"),
        (f"Shop:{CANARY}", "line 1: not of the form KEYSPACE:BASE64"),
        (f"shop:{CANARY}?", "line 1: the text after the colon is not base64"),
        ("shop:", "line 1: the secret is empty"),
        (f"shop:{CANARY}\n" * (MAX_IMPORT_SECRETS + 1), "line 5: a keyspace has at most 4 secrets"),
    ],
)
def test_a_wrong_file_stops_the_start_and_is_not_said_back(
    text: str, why: str, tmp_path: Path
) -> None:
    file = tmp_path / "secrets"
    file.write_text(text)
    pepper = SecretStr(f"1:{base64.b64encode(bytes(32)).decode()}")
    settings = Settings(pepper=pepper, import_secret_file=file)
    with pytest.raises(CannotStart) as caught:
        provide_peppers(settings, None)
    assert why in str(caught.value)
    assert "KEYFENCE_IMPORT_SECRET_FILE" in str(caught.value)
    assert CANARY not in str(caught.value)

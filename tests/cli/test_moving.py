"""The pages on moving from other programs, played: their declarations, commands and files."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import secrets
import shlex
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import argon2
import pytest

from docs.pages import blocks, read
from keyfence_server.cli import app as command
from keyfence_server.domain.formats import ALPHABETS
from support.served import Served

Check = Callable[[str, str], bool]

OWN_TABLE: Final = "docs/how-to/move-from-your-own-table.md"
UNKEY: Final = "docs/how-to/move-from-unkey.md"
DJANGO: Final = "docs/how-to/move-from-djangorestframework-api-key.md"


def body(length: int, alphabet: str = "base62") -> str:
    return "".join(secrets.choice(ALPHABETS[alphabet]) for _ in range(length))


class Move:
    """A page's steps in a directory of its own, on a keyspace of another name."""

    def __init__(self, page: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.keyspace = f"t{uuid.uuid4().hex}"
        self._capsys = capsys
        self._text = read(page)
        self._directory = directory
        [declaration] = blocks(self._text, "yaml")
        renamed = declaration.replace("keyspace: shop", f"keyspace: {self.keyspace}")
        (directory / "shop.yaml").write_text(renamed)

    def block(self, language: str) -> str:
        """The file that the page shows."""
        [block] = blocks(self._text, language)
        return block

    def write(self, name: str, text: str) -> None:
        """Writes the file of keys by its name on the page."""
        assert f"`{name}`" in self._text or f"> {name}" in self._text
        (self._directory / name).write_text(text)

    def play(self) -> list[str]:
        """What each command of the page writes."""
        written = []
        for line in "".join(blocks(self._text, "sh")).splitlines():
            program, *arguments = shlex.split(line.replace("-k shop", f"-k {self.keyspace}"))
            assert program == "keyfence"
            command.run([self._in_directory(argument) for argument in arguments])
            captured = self._capsys.readouterr()
            written.append(captured.out + captured.err)
        return written

    def accepts(self, api_key: str, *scopes: str) -> bool:
        """Whether a check allows the key these scopes."""
        asked = [part for scope in scopes for part in ("--scope", scope)]
        code = command.run(["check", api_key, "-k", self.keyspace, *asked])
        self._capsys.readouterr()
        return code == 0

    def _in_directory(self, argument: str) -> str:
        is_file = re.fullmatch(r"[a-z]+\.(yaml|csv|jsonl)", argument)
        return str(self._directory / argument) if is_file else argument


@pytest.fixture
def move(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[str], Move]:
    monkeypatch.setenv("KEYFENCE_TARGET", served.target)
    monkeypatch.setenv("KEYFENCE_TOKEN", served.root_key)
    return lambda page: Move(page, tmp_path, capsys)


def test_from_a_table_of_ones_own(move: Callable[[str], Move]) -> None:
    moving = move(OWN_TABLE)
    api_key = f"shop_live_{body(40)}"
    [names, example] = list(csv.reader(io.StringIO(moving.block("text"))))
    row = dict(zip(names, example, strict=True))
    row["key_hash"] = hashlib.sha256(api_key.encode()).hexdigest()
    moving.write("keys.csv", f"{','.join(names)}\n{','.join(row.values())}\n")
    _, tried, imported = moving.play()
    assert "1 key would be imported, 0 there already, 0 refused." in tried
    assert "1 key imported, 0 there already, 0 refused." in imported
    assert moving.accepts(api_key, "orders:read")
    assert not moving.accepts(api_key, "orders:write")


def test_from_unkey(move: Callable[[str], Move]) -> None:
    moving = move(UNKEY)
    example = json.loads(moving.block("json"))
    # 16 random bytes have 22 characters of base58 most often, and sometimes fewer.
    keys = [f"shop_{body(length, 'base58')}" for length in (22, 21, 20)]
    digests = [base64.b64encode(hashlib.sha256(key.encode()).digest()).decode() for key in keys]
    lines = [
        example | {"hash": digests[0]},
        example | {"hash": {"value": digests[1], "variant": "sha256_base64"}},
        example | {"hash": None, "plaintext": keys[2]},
        example | {"hash": digests[0], "remaining": 100},
    ]
    moving.write("keys.jsonl", "\n".join(map(json.dumps, lines)))
    _, tried, imported = moving.play()
    assert "3 keys would be imported, 0 there already, 1 refused." in tried
    assert "3 keys imported, 0 there already, 1 refused." in imported
    assert "line 4: remaining: Keyfence has no such field" in imported
    assert not any(secret in imported for secret in (*keys, *digests))
    for key in keys:
        assert moving.accepts(key, "orders.read")
    assert not moving.accepts(keys[0], "orders.write")


def pbkdf2_of(text: str) -> str:
    """As Django's `PBKDF2PasswordHasher` writes it, with fewer iterations."""
    value = hashlib.pbkdf2_hmac("sha256", text.encode(), b"salt", 1000)
    return f"pbkdf2_sha256$1000$salt${base64.b64encode(value).decode()}"


def argon2_of(text: str) -> str:
    """As Django's `Argon2PasswordHasher` writes it."""
    return "argon2" + argon2.PasswordHasher(time_cost=1, memory_cost=64).hash(text)


def sha512_of(text: str) -> str:
    """As the library writes it from version 3.0 on."""
    return f"sha512$${hashlib.sha512(text.encode()).hexdigest()}"


def test_from_djangorestframework_api_key(move: Callable[[str], Move]) -> None:
    moving = move(DJANGO)
    example = json.loads(moving.block("json"))
    keys = [f"{body(8)}.{body(32)}" for _ in range(5)]
    hashes = [pbkdf2_of(keys[0]), argon2_of(keys[1]), sha512_of(keys[2])]
    hashes += [f"scrypt$canary${body(64)}", sha512_of(keys[4])]
    lines = []
    for key, text in zip(keys, hashes, strict=True):
        row = {"prefix": key.partition(".")[0], "hashed_key": text, "revoked": key == keys[4]}
        lines.append(example | {"pk": f"{row['prefix']}.{text}", "fields": example["fields"] | row})
    moving.write("keys.jsonl", "\n".join(map(json.dumps, lines)))
    _, tried, imported = moving.play()
    assert "3 keys would be imported, 0 there already, 2 refused." in tried
    assert "3 keys imported, 0 there already, 2 refused." in imported
    assert "line 4: INVALID_FIELD: password_hash.hash" in imported
    assert "line 5: revoked: the key is revoked there" in imported
    assert not any(text in imported for text in (*keys, *hashes, "canary"))
    for key in keys[:3]:
        assert moving.accepts(key, "orders:read")
        assert not moving.accepts(key, "orders:write")
        assert not moving.accepts(f"{key[:-1]}{'x' if key[-1] != 'x' else 'y'}")
    assert not any(map(moving.accepts, keys[3:]))

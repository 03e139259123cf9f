"""The position of the store, in a file beside the server's other files."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from keyfence_server.adapters.files.private import replace_private_file
from keyfence_server.application.high_water import Position


class HighWaterFile:
    """Keeps the highest position of a store, outside of it.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Position | None:
        """The position; None if none was kept.

        Raises:
            ValueError: what was kept cannot be understood.
        """
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        try:
            return Position(
                revision=int(found["revision"]),
                events=int(found["events"]),
                hash=bytes.fromhex(found["hash"]),
                time=datetime.fromisoformat(found["time"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"the field {error} is missing or malformed") from None

    def write(self, position: Position) -> None:
        """Keeps the position. The file is replaced whole, so a crash leaves the old or the new
        one. Raises `OSError`."""
        text = json.dumps(
            {
                "revision": position.revision,
                "events": position.events,
                "hash": position.hash.hex(),
                "time": position.time.isoformat(),
            }
        )
        replace_private_file(self.path, text)

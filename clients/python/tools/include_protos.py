"""Puts the protos into the wheel, beside the stubs that were generated from them.

Users of the guard import `keyfence/v1/options.proto` in protos of their own. With the
wheel installed, `protoc -I` on the folder of installed packages finds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class IncludeProtos(BuildHookInterface[Any]):
    """Adds `keyfence/v1/*.proto`; an editable install has them in the clone."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds the wheel."""
        if version == "editable":
            return
        root = Path(self.root)
        # In a source distribution the protos are below the project, in a clone beside it.
        places = (root / "protos", root.parents[1] / "protos")
        protos = next((place for place in places if place.is_dir()), None)
        if protos is None:
            raise FileNotFoundError("the folder protos is missing, which the wheel carries")
        for path in sorted(protos.glob("keyfence/v1/*.proto")):
            build_data["force_include"][str(path)] = str(path.relative_to(protos))

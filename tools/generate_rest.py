"""Generates what the gateway needs of the protos: their descriptors, and an OpenAPI document.

    python -m tools.generate_rest [--check]

The stubs leave the REST annotations out, so that clients need no more than gRPC. Here they
are read from the protos themselves. Both files are the same for the same protos, and
`--check` fails if they are not what they would be.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import google.rpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from tools.openapi import openapi_document

_ROOT = Path(__file__).parents[1]
_PROTOS = _ROOT / "protos"
_GATEWAY = _ROOT / "service" / "keyfence_server" / "gateway"
DESCRIPTORS = _GATEWAY / "descriptors.binpb"
OPENAPI = _GATEWAY / "openapi.json"

# What error statuses carry: Envoy writes it as JSON only if it knows it.
_ERROR_DETAILS = ("google/rpc/error_details.proto", "google/rpc/status.proto")


def main() -> int:
    """Writes the files, or compares them. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail on a difference")
    check = parser.parse_args().check
    described = compile_protos()
    contents = {
        DESCRIPTORS: without_comments(described).SerializeToString(deterministic=True),
        OPENAPI: json.dumps(openapi_document(described), indent=2).encode() + b"\n",
    }
    differing = [
        path for path, new in contents.items() if not path.exists() or path.read_bytes() != new
    ]
    if check:
        for path in differing:
            print(f"{path.relative_to(_ROOT)} differs from the protos. Run: make generate")
        return 1 if differing else 0
    for path, new in contents.items():
        path.write_bytes(new)
    return 0


def compile_protos() -> FileDescriptorSet:
    """All protos of the API and all that they import, comments included."""
    sources = sorted(str(path.relative_to(_PROTOS)) for path in _PROTOS.glob("keyfence/**/*.proto"))
    google_protos = Path(next(iter(google.rpc.__path__))).parents[1]
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "descriptors"
        code = protoc.main(
            [
                "protoc",
                f"-I{_PROTOS}",
                f"-I{google_protos}",
                f"-I{files('grpc_tools') / '_proto'}",
                "--include_imports",
                "--include_source_info",
                f"--descriptor_set_out={output}",
                *sources,
                *_ERROR_DETAILS,
            ]
        )
        if code:
            sys.exit(code)
        return FileDescriptorSet.FromString(output.read_bytes())


def without_comments(described: FileDescriptorSet) -> FileDescriptorSet:
    """The same without what only people read."""
    bare = FileDescriptorSet()
    bare.CopyFrom(described)
    for file in bare.file:
        file.ClearField("source_code_info")
    return bare


if __name__ == "__main__":
    sys.exit(main())

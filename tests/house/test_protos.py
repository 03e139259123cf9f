"""The protos can be compiled where users find them: in a clone, and in the SDK's wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

_ROOT: Final = Path(__file__).parents[2]
_PROTOS: Final = _ROOT / "protos"
_OURS: Final = sorted(
    path.relative_to(_PROTOS).as_posix() for path in _PROTOS.glob("keyfence/**/*.proto")
)

_GUARDED: Final = """
syntax = "proto3";
package acme.v1;
import "keyfence/v1/options.proto";
message Empty {}
service Servers {
  rpc ListServers(Empty) returns (Empty) {
    option (keyfence.v1.required_scope) = "vps:read";
  }
}
"""


def _compile(output: Path, include: Path, *sources: str) -> dict[str, FileDescriptorProto]:
    """Compiles with one folder to look in, besides the well-known types that every protoc has."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            f"-I{include}",
            f"-I{output.parent}",
            f"--descriptor_set_out={output}",
            *sources,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    described = FileDescriptorSet.FromString(output.read_bytes())
    return {file.name: file for file in described.file}


def test_a_clone_needs_nothing_but_its_folder_of_protos(tmp_path: Path) -> None:
    files = _compile(tmp_path / "api.binpb", _PROTOS, *_OURS)

    assert set(files) == set(_OURS)


@pytest.mark.parametrize("name", _OURS)
def test_every_proto_says_what_its_stubs_are_called(tmp_path: Path, name: str) -> None:
    options = _compile(tmp_path / "api.binpb", _PROTOS, name)[name].options

    assert options.go_package == "github.com/keyfence/keyfence/clients/go/keyfence/v1;keyfencev1"
    assert options.java_package == "io.github.keyfence.v1"
    assert options.java_multiple_files
    assert options.csharp_namespace == "Keyfence.V1"
    assert options.php_namespace == r"Keyfence\V1"
    assert options.ruby_package == "Keyfence::V1"


def test_the_wheel_alone_compiles_a_proto_of_a_guarded_service(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, f"--wheel-dir={tmp_path}", _ROOT / "clients" / "python"], check=True)
    installed = tmp_path / "installed"
    (wheel,) = tmp_path.glob("keyfence-*.whl")
    zipfile.ZipFile(wheel).extractall(installed)
    (tmp_path / "servers.proto").write_text(_GUARDED)

    files = _compile(tmp_path / "servers.binpb", installed, "servers.proto")

    assert files["servers.proto"].service[0].name == "Servers"
    assert {path.relative_to(installed).as_posix() for path in installed.rglob("*.proto")} == set(
        _OURS
    )

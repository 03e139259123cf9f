"""Generates the stubs of the shop's services, and builds those that are not in Python.

What the tools need beside it comes from the clients' own folders: Go's plugins of protoc, and
the packages that the TypeScript client's lock names.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOOLS = ("go", "node", "npm", "make")
PLUGINS = {
    "protoc-gen-go": "google.golang.org/protobuf/cmd/protoc-gen-go",
    "protoc-gen-go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
}


@dataclass(frozen=True)
class Built:
    """The commands of the services, and what they need.

    Attributes:
        python: the folder with the stubs in Python.
        descriptors: the file with the descriptor set of the shop's protos.
    """

    orders: list[str]
    stock: list[str]
    deliveries: list[str]
    python: Path
    descriptors: Path


def missing_tool() -> str | None:
    """The first tool that is not there."""
    return next((tool for tool in TOOLS if shutil.which(tool) is None), None)


def build(into: Path = ROOT / "build" / "polyglot") -> Built:
    """Builds everything. It takes some seconds, and the first time a minute."""
    python, stubs, descriptors = into / "python", HERE / "go" / "stubs", into / "shop.binpb"
    for directory in (python, stubs):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    for name, package in PLUGINS.items():
        _run("go", "build", "-o", into / name, package, cwd=ROOT / "clients" / "go" / "tools")
    _run(
        *(sys.executable, "-m", "grpc_tools.protoc"),
        *("-I", HERE / "protos", "-I", ROOT / "protos"),
        *(f"--plugin={into / name}" for name in PLUGINS),
        *("--include_imports", f"--descriptor_set_out={descriptors}"),
        *(f"--python_out={python}", f"--grpc_python_out={python}"),
        *(f"--go_out={stubs}", f"--go-grpc_out={stubs}"),
        *("--go_opt=module=example.com/polyglot/orders/stubs",),
        *("--go-grpc_opt=module=example.com/polyglot/orders/stubs",),
        *sorted((HERE / "protos").glob("**/*.proto")),
    )
    _run("go", "vet", ".", cwd=HERE / "go")
    _run("go", "build", "-o", into / "orders", ".", cwd=HERE / "go")
    return Built(
        orders=[str(into / "orders")],
        stock=[sys.executable, str(HERE / "stock.py")],
        deliveries=["node", str(_build_typescript())],
        python=python,
        descriptors=descriptors,
    )


def _build_typescript() -> Path:
    """Builds the client, and the service beside it. `npm install` would do the same."""
    client, service = ROOT / "clients" / "typescript", HERE / "typescript"
    _run("make", "--silent", "-C", client, "installed")
    _run("npm", "run", "--silent", "build", cwd=client)
    packages = service / "node_modules"
    shutil.rmtree(packages, ignore_errors=True)
    (packages / "@keyfence").mkdir(parents=True)
    (packages / "@keyfence" / "client").symlink_to(client)
    for name in ("@grpc", "@types"):
        (packages / name).symlink_to(client / "node_modules" / name)
    _run(client / "node_modules" / ".bin" / "tsc", "-p", service)
    return service / "built" / "deliveries.js"


def _run(*command: str | os.PathLike[str], cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True)

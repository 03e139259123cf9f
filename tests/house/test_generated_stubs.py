"""The committed stubs ask for nothing that the SDK does not depend on."""

import subprocess
import sys
from pathlib import Path

import keyfence.v1

STUBS = Path(keyfence.v1.__file__).parent


def test_every_stub_imports_without_a_warning_and_without_the_rest_annotations() -> None:
    modules = [f"keyfence.v1.{path.stem}" for path in sorted(STUBS.glob("*_pb2*.py"))]
    program = "\n".join(
        [
            "import importlib, sys",
            *(f"importlib.import_module({module!r})" for module in modules),
            "print([name for name in sys.modules if name.startswith('google.api')])",
        ]
    )

    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )

    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "[]", "")


def test_only_files_with_a_service_have_a_module_for_grpc() -> None:
    services = {path.name for path in STUBS.glob("*_pb2_grpc.py")}

    assert services
    assert all(name.endswith("_service_pb2_grpc.py") for name in services)
    assert {path.name for path in STUBS.glob("*_pb2_grpc.pyi")} == {f"{n}i" for n in services}

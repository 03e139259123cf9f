"""A protoc plug-in: gRPC stubs in Python with their types, for files that declare a service.

Two things that `buf generate` cannot be told in its configuration are told here. gRPC's own
generator is built into `grpc_tools` and exists as no program that buf could call. And both
it and mypy-protobuf's write an empty module for every file without a service, which would be part
of the SDK's public API by accident.

It knows the plug-in protocol (a `CodeGeneratorRequest` on stdin, a `CodeGeneratorResponse`
on stdout) and nothing of what the protos say.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """Answers with a module and its type stub for each requested file that has a service."""
    requested = set(request.file_to_generate)
    serving = [file.name for file in request.proto_file if file.name in requested and file.service]
    response = CodeGeneratorResponse(
        supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    if not serving:
        return response
    with tempfile.TemporaryDirectory() as scratch:
        descriptors = Path(scratch, "descriptors.binpb")
        descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
        output = Path(scratch, "stubs")
        output.mkdir()
        run = subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc"),
                f"--descriptor_set_in={descriptors}",
                f"--grpc_python_out={output}",
                f"--mypy_grpc_out=quiet:{output}",
                *serving,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode != 0:
            response.error = run.stderr.strip() or "protoc failed without a word"
            return response
        for path in sorted(output.rglob("*.py*")):
            response.file.add(name=path.relative_to(output).as_posix(), content=path.read_text())
    return response


if __name__ == "__main__":
    answer = generate(CodeGeneratorRequest.FromString(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(answer.SerializeToString())

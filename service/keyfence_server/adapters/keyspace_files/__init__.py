"""Keyspace files: YAML that people write, and faults that point at the line.

A fault is found in one of three places, and shown in the same way: by the YAML
reader, by the domain's own rules, which need no server, and by a server, whose field
violations carry the same paths as the domain's problems.
"""

from keyfence_server.adapters.keyspace_files.reading import (
    MAX_FILE_SIZE,
    InvalidKeyspaceFile,
    KeyspaceFile,
    parse_keyspace_file,
    read_keyspace_file,
)
from keyfence_server.adapters.keyspace_files.writing import write_keyspace_document

__all__ = [
    "MAX_FILE_SIZE",
    "InvalidKeyspaceFile",
    "KeyspaceFile",
    "parse_keyspace_file",
    "read_keyspace_file",
    "write_keyspace_document",
]

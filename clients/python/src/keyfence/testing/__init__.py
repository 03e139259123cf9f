"""Servers for tests of programs that use Keyfence.

`FakeServer` is in memory and speaks the same API over a real socket. `ServerProcess` runs the
installed `keyfence serve`.
"""

from keyfence.testing._failure import Failure
from keyfence.testing._fake import TOKEN
from keyfence.testing._process import ServerProcess
from keyfence.testing._server import FakeServer, keyspace

__all__ = ["TOKEN", "Failure", "FakeServer", "ServerProcess", "keyspace"]

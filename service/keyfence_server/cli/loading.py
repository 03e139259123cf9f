"""Loading modules without looking for garbage meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Has the garbage collector rest while modules are loaded, and leave alone what they make.

    Nearly all of it stays for as long as the process, and looking through it again and again takes
    a seventh of the processor time of a start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()

"""Writing a file whole or not at all, wherever the path leads."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def is_special(path: Path) -> bool:
    """Whether there is something at a path that bytes can only be sent to: a pipe, a terminal, a device."""
    return path.exists() and not (path.is_file() or path.is_dir())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or as it was before.

    A symbolic link stays one: the file that it leads to is written. A pipe or a device is written to, and stays.

    Raises:
        OSError: when it cannot be written.
    """
    if is_special(path):
        # unbuffered, so that closing has nothing left to fail on
        with path.open("wb", buffering=0) as stream:
            view = memoryview(content)
            while view:
                view = view[stream.write(view) :]
        return
    target = Path(os.path.realpath(path))
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        # mkstemp grants the owner only; what people read is an ordinary file
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise

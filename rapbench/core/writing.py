"""Files that exist with all their content or not at all."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

from rapbench.core.errors import BadConfig


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that it exists with all its content or not at all.

    Raises:
        BadConfig: it cannot be written.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}")  # nobody else's, wherever other writers run
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise BadConfig(
            f"cannot write {path}: {error.strerror}; what is done is kept, choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)

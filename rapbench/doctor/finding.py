"""What a check found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from rapbench.core.errors import RapbenchError

Level = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        level: 'ok'; 'warn' where a run is possible, though not as one may think; 'FAIL' where it is not.
        subject: what was looked at.
        message: what was found, and what to do about it.
    """

    level: Level
    subject: str
    message: str


def checked(
    subject: str, check: Callable[..., Iterable[Finding]], *arguments: object, level: Level = "FAIL"
) -> list[Finding]:
    """What a check found; what it raised is a finding of that level, since an error says what to do."""
    try:
        return list(check(*arguments))
    except (RapbenchError, OSError) as error:
        return [Finding(level=level, subject=subject, message=" ".join(str(error).split()))]


def shown(num_bytes: float) -> str:
    """A number of bytes as people read it."""
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"

"""Small JSON files in a results folder, sealed by digits of their content: a damaged or edited one counts as none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sealed(content: Mapping[str, Any]) -> bytes:
    """A note with this content."""
    return json.dumps({**content, "digits": _digits(content)}, indent=1).encode()


def unsealed(path: Path) -> dict[str, Any] | None:
    """The content of a note; None where there is none, or not as it was written."""
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        return content if content.pop("digits") == _digits(content) else None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _digits(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

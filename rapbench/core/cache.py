"""Where what is computed once for all runs is kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder that RAPBENCH_CACHE names, `~/.cache/rapbench` by default."""
    return Path(os.environ.get("RAPBENCH_CACHE") or "~/.cache/rapbench").expanduser()

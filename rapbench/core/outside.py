"""Code from outside the package: `module:attribute`, or `path/file.py:attribute`."""

from __future__ import annotations

import importlib
import sys
from contextlib import redirect_stdout
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from rapbench.core.errors import BadConfig, DataMissing, RapbenchError, UnknownName, last_line
from rapbench.core.paths import typed_path

_FILE = ".py"


def outside_module(kind: str, name: str) -> ModuleType:
    """The module or file before the last colon of a name, imported.

    The folder of a file comes first where Python looks for modules, as that of a script does.

    Args:
        kind: what is looked for, for the error.
        name: for example `mylab:Brightness` or `~/nets/mine.py:build`.

    Raises:
        DataMissing: no such file.
        UnknownName: no such module.
        BadConfig: its code cannot be read or raises.
    """
    where = name.rpartition(":")[0]
    try:
        with redirect_stdout(sys.stderr):  # standard output is the command's
            return _of_file(where) if where.endswith(_FILE) else importlib.import_module(where)
    except RapbenchError:
        raise
    except (Exception, SystemExit) as error:
        fault = UnknownName if isinstance(error, ModuleNotFoundError) else BadConfig
        raise fault(f"cannot load {kind} {name!r}: {last_line(error)}") from error


def folderless(name: str) -> str:
    """The name without the folder of a file: `nets/mine.py:build` is `mine.py:build`, wherever it lies."""
    return name.rpartition("/")[2]


def own_names(module: ModuleType) -> list[str]:
    """Names of what a module defines itself, for others to use."""
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return [name for name in own if not name.startswith("_")]


def _of_file(text: str) -> ModuleType:
    path = typed_path(text)
    if not path.is_file():
        raise DataMissing(f"no file {text}")
    return _executed(path.resolve(), path.stat().st_mtime_ns)


@lru_cache
def _executed(path: Path, modified: int) -> ModuleType:  # noqa: ARG001 - a changed file is read again
    """The module of a file, under its path, which no other module has for a name; it is in no package."""
    spec = spec_from_file_location(str(path.with_suffix("")).replace(".", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module

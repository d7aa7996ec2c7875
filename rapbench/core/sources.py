"""The source of code: what it computes may change whenever the text does."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_OURS = "rapbench"
_COMPUTING = ("core", "relprop", "methods", "metrics", "datasets", "models", "backends", "run")
"""Packages of ours that rows rest on; the others read them."""


def source_digest(thing: object) -> str | None:
    """16 hexadecimal digits over the module that defines a class or function and what it imports from beside itself.

    Beside itself lies what is in the same folder or below it, or in the same package. None for code of this package and
    of installed ones, whose versions tell them apart.
    """
    module = inspect.getmodule(thing)
    file = _file(getattr(module, "__name__", ""))
    if module is None or file is None or module.__name__.partition(".")[0] == _OURS or _is_installed(file):
        return None
    package = sys.modules.get(module.__name__.partition(".")[0])
    top = _file(package.__name__) if package is not None and "." in module.__name__ else None
    seen: dict[Path, bytes] = {}
    _collect(module.__name__, (top or file).parent, seen)
    content = b"\0".join(seen[path] for path in sorted(seen))
    return hashlib.sha256(content).hexdigest()[:16]


def code_digest(*things: object) -> str:
    """8 hexadecimal digits over this package's code that rows rest on, and the modules of other things of it."""
    root = Path(__file__).parents[1]
    own = [path for name in _COMPUTING for path in sorted((root / name).rglob("*.py"))]
    return _digits_of((*own, *(Path(inspect.getfile(type(thing))) for thing in things)))


@cache
def _digits_of(files: tuple[Path, ...]) -> str:
    content = b"\0".join(path.read_bytes() for path in files)
    return hashlib.sha256(content).hexdigest()[:8]


def _is_installed(file: Path) -> bool:
    return "site-packages" in file.parts or "dist-packages" in file.parts


def _file(module: str) -> Path | None:
    """The source file of an imported module."""
    path = getattr(sys.modules.get(module), "__file__", None)
    return Path(path).resolve() if path and path.endswith(".py") else None


def _collect(module: str, root: Path, seen: dict[Path, bytes]) -> None:
    """Adds the source of a module below a folder, and of the modules below it that it imports."""
    file = _file(module)
    if file is None or file in seen or not file.is_relative_to(root) or _is_installed(file):
        return
    seen[file] = file.read_bytes()
    for name in _imported(ast.parse(seen[file]), module, is_package=file.name == "__init__.py"):
        _collect(name, root, seen)


def _imported(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[str]:
    """Names of modules that a module's text may import; what is imported from one may be a module as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)

"""A source folder that Python finds is enough: on a machine without a package index nothing can be installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

import rapbench
from rapbench.doctor import machine
from rapbench.run import plan


@pytest.mark.parametrize("module", [plan, machine])
def test_versions_are_told_where_rapbench_was_not_installed(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    def version(name: str) -> str:
        if name == "rapbench":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(module, "version", version)
    assert plan.versions()["rapbench"] == rapbench.__version__
    assert f"rapbench {rapbench.__version__}" in machine.libraries().message

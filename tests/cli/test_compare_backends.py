"""`rapbench compare-backends`, and the matrix of `rapbench list methods`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from rapbench.backends import BACKENDS, CAPTUM, NATIVE, ZENNIT, providers
from rapbench.cli.compare_backends import compare_backends
from rapbench.cli.list import list_names
from rapbench.core.errors import BadConfig, RapbenchError, UnknownName
from rapbench.doctor.compare import largest_difference, shared

TINY = ["--model", "doubles:tiny", "--weights", "random", "--dataset", "doubles:Squares", "--limit", "2"]
Compare = Callable[..., Result]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Compare:
    monkeypatch.delenv("RAPBENCH_DATA", raising=False)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(compare_backends)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, [*TINY, *arguments])
        if isinstance(result.exception, RapbenchError):
            raise result.exception
        return result

    return run


def test_every_pair_of_backends_of_a_method_is_a_line(compare: Compare) -> None:
    lines = compare("--method", "guided_backprop,lrp_a2b1").stdout.splitlines()
    assert lines[0] == "doubles:tiny (random) on 2 images of doubles:Squares, fp64"
    assert [line.split()[:3] for line in lines[3:]] == [
        ["guided_backprop", "native", "captum"],
        ["guided_backprop", "native", "zennit"],
        ["guided_backprop", "captum", "zennit"],
        ["lrp_a2b1", "native", "zennit"],
    ]
    assert all(float(line.split()[3]) < 1e-9 and line.split()[4] == "equal" for line in lines[3:])


def test_json_is_one_document(compare: Compare) -> None:
    document = json.loads(
        compare("--method", "lrp_a1b0(bias=signed)", "--method", "integrated_gradients", "--json").stdout
    )
    assert document["run"] == {"model_title": "doubles:tiny (random)", "dataset": "doubles:Squares", "images": 2}
    first, second = document["comparisons"]
    assert (first["method"], first["backends"]) == ("lrp_a1b0(bias=signed)", ["native", "zennit"])
    assert (first["difference"] < 1e-9, first["refusal"], first["expected"]) == (True, "", "")
    assert "single precision" in second["expected"]


def test_the_difference_is_that_of_the_image_on_which_it_is_largest() -> None:
    a = torch.tensor([[1.0, 3.0], [2.0, 2.0], [0.0, 0.0]], dtype=torch.float64).view(3, 1, 1, 2)
    b = torch.tensor([[1.0, 3.0], [2.0, -1.0], [0.0, 0.0]], dtype=torch.float64).view(3, 1, 1, 2)
    assert largest_difference(a, b) == largest_difference(b, a) == 3 / 4
    assert largest_difference(a, a) == 0
    assert largest_difference(a, torch.zeros_like(a)) == 1


def test_a_method_that_a_backend_gets_wrong_shows_in_the_table(
    compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(self: object, model: nn.Module, x: Tensor, target: Tensor, *, seeds: Tensor) -> Tensor:
        return 2 * torch.ones_like(x)

    monkeypatch.setattr("rapbench.backends.captum.Gradient.__call__", doubled)
    (found,) = json.loads(compare("--method", "gradient", "--json").stdout)["comparisons"]
    assert found["difference"] > 0.5


def test_refusals_are_cells_and_not_the_end(compare: Compare) -> None:
    printed = compare("--method", "integrated_gradients(points=left, steps=2),input_gradient").stdout.splitlines()
    assert "refused" in printed[3]
    assert "no parameter 'points'" in printed[3]
    assert "equal" in printed[4]


def test_a_missing_library_is_a_cell(compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zennit", None)
    monkeypatch.delitem(sys.modules, "rapbench.backends.zennit", raising=False)
    printed = compare("--method", "lrp_flat").stdout
    assert 'refused     backend zennit needs zennit: pip install "rapbench[zennit]"' in printed


def test_by_default_all_shared_methods_are_compared() -> None:
    names = {call.name for call in shared()}
    assert names == (set(NATIVE) & set(CAPTUM)) | (set(NATIVE) & set(ZENNIT)) | (set(CAPTUM) & set(ZENNIT))
    assert {"gradient", "guided_backprop", "lrp_a1b0"} <= names
    assert not {"rap", "lime"} & names


def test_methods_that_cannot_be_compared_are_refused(compare: Compare) -> None:
    with pytest.raises(UnknownName, match="did you mean guided_backprop"):
        compare("--method", "guided_backprob")
    with pytest.raises(BadConfig, match="method rap comes from native alone"):
        compare("--method", "rap")
    assert compare("--limit", "0").exit_code == 2


def test_the_list_of_methods_says_which_backends_have_each(capsys: pytest.CaptureFixture[str]) -> None:
    list_names("methods")
    printed = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(printed) == list(providers())
    assert "  native captum zennit  " in printed["guided_backprop"]
    assert "  captum  " in printed["lime"]
    assert printed["rap"].endswith(NATIVE["rap"].summary)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_name_of_a_backend_leads_to_a_method(backend: str) -> None:
    catalogue = BACKENDS.load(backend)
    for name in catalogue:
        method = catalogue.load(name)
        assert method.title
        assert isinstance(method.signed, bool)
        if name in NATIVE:
            assert (method.title, method.signed) == (NATIVE.load(name).title, NATIVE.load(name).signed)


@pytest.fixture
def with_package(tmp_path: Path) -> Callable[[str], str]:
    """Runs Python where a package with methods of its own is installed."""
    info = tmp_path / "mylab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mylab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rapbench.methods]\nbrightness = mylab:Brightness\nrap = mylab:Nothing\n")
    (tmp_path / "mylab.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Brightness:\n"
        "    title, signed = 'Brightness', True\n"
        "    power: float = 1.0\n"
        "    def __call__(self, model, x, target, *, seeds):\n"
        "        return x.sign() * x.abs() ** self.power\n"
    )

    def run(*arguments: str) -> str:
        path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=True)
        return done.stdout

    return run


@pytest.mark.slow
def test_installed_packages_add_methods_and_take_none_away(with_package: Callable[..., str]) -> None:
    code = """
import torch, rapbench
from rapbench.backends import NATIVE
x = torch.randn(1, 3, 4, 4)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))
assert torch.equal(rapbench.attribute(net, x, method="brightness(power=2)"), x * x.abs())
print(NATIVE["brightness"].summary, NATIVE.load("rap").__module__)
"""
    assert with_package("-c", code).split() == ["from", "mylab", "rapbench.methods.rap"]


def test_methods_are_listed_without_importing_what_they_need(with_package: Callable[..., str]) -> None:
    code = """
import sys
from rapbench.cli.list import list_names
list_names("methods")
print(sorted({"torch", "captum", "zennit", "numpy", "mylab"} & set(sys.modules)))
"""
    *listed, imported = with_package("-c", code).splitlines()
    assert imported == "[]"
    assert any(line.startswith("brightness ") and line.endswith("from mylab") for line in listed)

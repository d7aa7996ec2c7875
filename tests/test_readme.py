"""What the README shows works as shown."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import typer

from rapbench import cli
from rapbench.datasets import DATASETS
from rapbench.methods import METHODS
from rapbench.metrics import METRICS
from rapbench.run.spec import read_parts

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_method_metric_and_data_set_is_described() -> None:
    for catalogue in (METHODS, METRICS, DATASETS):
        for name in catalogue:
            assert f"`{name}`" in README, name


def test_every_option_it_names_exists() -> None:
    commands = typer.main.get_group(cli.app).commands.values()
    known = {option for command in commands for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"(?<!-)--[a-z][a-z-]*", README)) - {"--quiet", "--exclude"} <= known
    assert set(re.findall(r"rapbench ([a-z-]+)", README)) <= {command.name for command in commands} | {"explains"}


def test_the_method_it_shows_runs_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = re.search(r"```python\n# mylab.py\n(.*?)```", README, re.DOTALL)
    assert code
    (tmp_path / "mylab.py").write_text(code[1])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    model = ["--model", "doubles:tiny", "--weights", "random", "--dataset", "doubles:Squares", "--limit", "2"]
    monkeypatch.setattr(sys, "argv", ["rapbench", "run", *model, "--method", "mylab:Brightness(power=2),random"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "mylab:Brightness(power=2.0)" in capsys.readouterr().out


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.name)
def test_every_config_is_a_spec_and_says_its_command(config: Path) -> None:
    assert all(spec.method for spec in read_parts(config, {}).values())
    assert f"rapbench run --config configs/{config.name}" in config.read_text()

"""What the documents show works as shown, names what there is, and leads where it says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from rapbench.cli import main
from rapbench.cli.app import command as rapbench
from rapbench.core.catalogue import Catalogue
from rapbench.datasets import DATASETS
from rapbench.methods import METHODS
from rapbench.metrics import METRICS
from rapbench.papers.card import exhibits
from rapbench.run.spec import RunSpec, read_parts

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
DOCUMENTS = sorted(
    path for folder in ("*.md", "configs/*.md", "results/*.md", "rapbench/*/README.md") for path in ROOT.glob(folder)
)
NOT_OURS = {"--quiet", "--dist", "--exclude"}
"""Options of other programs that the documents show."""
document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def text(path: str) -> str:
    return (ROOT / path).read_text()


def code(markdown: str) -> str:
    """What stands in blocks of code and between backticks."""
    blocks = re.findall(r"```\w*\n(.*?)```", markdown, re.DOTALL)
    return "\n".join(blocks + re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)))


@pytest.mark.parametrize(("folder", "catalogue"), [("methods", METHODS), ("metrics", METRICS), ("datasets", DATASETS)])
def test_every_name_of_a_catalogue_is_described_beside_it(folder: str, catalogue: Catalogue) -> None:
    described = text(f"rapbench/{folder}/README.md")
    assert [name for name in catalogue if f"`{name}`" not in described] == []


@pytest.mark.parametrize(("folder", "catalogue"), [("methods", METHODS), ("metrics", METRICS), ("datasets", DATASETS)])
def test_every_parameter_of_a_catalogue_is_described_beside_it(folder: str, catalogue: Catalogue) -> None:
    described = text(f"rapbench/{folder}/README.md")
    classes = {name: catalogue.load(name) for name in catalogue}
    missing = {
        (name, field.name)
        for name, cls in classes.items()
        for field in fields(cls)
        if field.init and not re.search(rf"`{field.name}\b", described)
    }
    assert missing - {(name, given) for name in DATASETS for given in ("data_root", "size")} == set()


def test_every_table_and_figure_every_config_and_every_page_of_results_is_described() -> None:
    assert [name for name in exhibits() if f"`{name}`" not in text("rapbench/papers/README.md")] == []
    assert [path.name for path in CONFIGS if f"`{path.name}`" not in text("configs/README.md")] == []
    pages = [path.name for path in (ROOT / "results").glob("*.md") if path.name != "README.md"]
    assert [name for name in pages if f"({name})" not in text("results/README.md")] == []


def test_every_option_of_a_run_is_described() -> None:
    described = text("configs/README.md")
    options = [f"--{name.replace('_', '-')}" for name in RunSpec.model_fields if name != "study"]
    assert [option for option in options if f"`{option}`" not in described] == []


@document
def test_every_option_and_command_it_names_exists(document: Path) -> None:
    commands = rapbench.commands.values()
    known = {option for command in commands for parameter in command.params for option in parameter.opts}
    named = code(document.read_text())
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", named)) - NOT_OURS <= known
    assert set(re.findall(r"\brapbench ([a-z][a-z-]*)(?=\s|$)", named)) <= {command.name for command in commands}


@document
def test_every_link_of_it_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    assert [link for link in links if "://" not in link and not leads_somewhere(document, link)] == []


def leads_somewhere(document: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = document.parent / path if path else document
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(markdown: Path) -> Iterator[str]:
    for heading in re.findall(r"^#+ (.*)$", markdown.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(
    ("folder", "place", "arguments", "printed"),
    [
        ("methods", 0, "--model doubles:tiny --method mylab:Brightness(power=2),random", "mylab:Brightness(power=2.0)"),
        ("methods", 1, "--model doubles:tiny --method mylab:LossGradient,random", "mylab:LossGradient"),
        ("metrics", 0, "--model doubles:tiny --metric mylab:Sparsity", "mylab:Sparsity on 2"),
        (
            "models",
            0,
            "--model my_network.py:build(width=8) --weights auto --metric guards",
            "my_network.py:build(width=8) (own)",
        ),
        ("models", 1, "--model mylab:small_net --metric guards", "mylab:small_net (random)"),
        (
            "models",
            2,
            "--model mylab:DENSE --metric guards --dataset digits",
            "mylab:DENSE (random) on 2 images of digits",
        ),
    ],
)
def test_what_is_shown_of_one_s_own_runs_as_shown(
    folder: str,
    place: int,
    arguments: str,
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = re.findall(r"```python\n# (my\w+\.py)\n(.*?)```", text(f"rapbench/{folder}/README.md"), re.DOTALL)
    file, code = shown[place]
    (tmp_path / file).write_text(code)
    monkeypatch.delitem(sys.modules, "mylab", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    tiny = ["--weights", "random", "--dataset", "doubles:Squares", "--limit", "2", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["rapbench", "run", *tiny, *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    found = capsys.readouterr()
    assert ended.value.code == 0, found.err
    assert printed in found.out


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_every_config_is_a_spec_and_says_its_command(config: Path) -> None:
    assert all(spec.method for spec in read_parts(config, {}).values())
    assert f"rapbench run --config configs/{config.name}" in config.read_text()

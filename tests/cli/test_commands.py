"""The command line as a user types it: what it prints where, and with which exit code it ends."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typed import Command, typed

from rapbench.cli.run import run
from rapbench.methods import METHODS
from rapbench.report.result import FIELDS
from rapbench.run.spec import RunSpec

TINY = ["--model", "doubles:tiny", "--weights", "random", "--dataset", "doubles:Squares", "--device", "cpu"]


@pytest.fixture
def rapbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.delenv("RAPBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    return typed(monkeypatch, capsys)


def test_a_run_prints_tables_on_stdout_and_progress_on_stderr(rapbench: Command) -> None:
    done = rapbench("run", *TINY, "--limit", "3", "--method", "rap,random", "--metric", "segmentation")
    assert done.code == 0
    assert "doubles:tiny (random) on 3 images of doubles:Squares" in done.out
    assert "pixel_accuracy@paper (higher)" in done.out
    assert "6/6 explanations" in done.err
    assert "explanations/s" in done.err
    assert Path("results/runs").is_dir()


def test_json_is_one_document_with_the_promised_fields(rapbench: Command) -> None:
    done = rapbench("run", *TINY, "--limit", "3", "--method", "random", "--metric", "segmentation", "--json")
    document = json.loads(done.out)
    assert set(document) == {"run", "results"}
    assert all(tuple(result) == FIELDS for result in document["results"])
    assert {"seed", "versions", "device", "seconds", "skipped", "method"} <= set(document["run"])
    assert document["run"]["device"] == "cpu"


def test_unreadable_and_unusual_images_are_counted_in_both_outputs(rapbench: Command) -> None:
    data = ["--dataset", "doubles:Squares(count=12, unreadable_every=5, grey_every=4)"]
    options = [*TINY[:4], *data, "--method", "random", "--metric", "segmentation", "--device", "cpu"]
    assert "images: 3 unreadable image (skipped), 3 converted from grey\n" in rapbench("run", *options).out
    document = json.loads(rapbench("run", *options, "--json").out)["run"]
    assert document["skipped"] == {"unreadable image": 3}
    assert document["noted"] == {"converted from grey": 3}


def test_values_without_images_are_null_in_json(rapbench: Command) -> None:
    done = rapbench("run", *TINY, "--limit", "2", "--method", "all_background", "--metric", "outside_inside", "--json")
    (found,) = [r for r in json.loads(done.out)["results"] if r["variant"] == "all"]
    assert (found["value"], found["ci_low"], found["n"], found["n_dropped"]) == (None, None, 0, 2)


def test_a_dry_run_says_what_would_be_done_and_computes_nothing(rapbench: Command) -> None:
    done = rapbench("run", *TINY, "--limit", "3", "--method", "rap,random", "--dry-run")
    assert done.code == 0
    assert "to explain: 6 images" in done.out
    assert not Path("results").exists()


def test_the_table_prints_what_the_store_holds(rapbench: Command) -> None:
    rapbench("run", *TINY, "--limit", "3", "--method", "random", "--metric", "segmentation")
    rapbench("run", *TINY, "--limit", "5", "--method", "doubles:Counting", "--metric", "outside_inside")
    done = rapbench("table")
    assert "segmentation on doubles:Squares" in done.out
    assert "outside_inside on doubles:Squares" in done.out
    found = json.loads(rapbench("table", "--json").out)["results"]
    assert {r["n"] for r in found if r["variant"] != "residual"} == {3, 5}


def test_the_table_of_a_run_is_the_table_of_its_store(rapbench: Command) -> None:
    ran = rapbench("run", *TINY, "--limit", "40", "--method", "random,center", "--metric", "segmentation")
    printed = ran.out.partition("\n\n")[2].strip()
    assert sorted(rapbench("table").out.strip().splitlines()) == sorted(printed.splitlines())


def test_lists_name_everything_with_a_line_on_it(rapbench: Command) -> None:
    printed = rapbench("list", "methods").out.splitlines()
    assert [line.split()[0] for line in printed][: len(METHODS)] == list(METHODS)
    assert "native captum" in next(line for line in printed if line.startswith("gradient "))
    for kind in ("models", "datasets", "metrics", "papers"):
        assert rapbench("list", kind).code == 0


def test_every_command_and_option_has_help(rapbench: Command) -> None:
    for command in ("run", "list", "table", "figure", "show", "check", "doctor", "compare-backends"):
        shown = rapbench(command, "--help")
        assert shown.code == 0
        assert "Options:" in shown.out
    text = rapbench("run", "--help").out
    for option in (
        *("method", "model", "weights", "dataset", "data-root", "metric", "limit", "seed", "device", "batch-size"),
        *("precision", "backend", "out", "config", "save-maps", "json", "dry-run", "strict"),
    ):
        assert f"--{option}" in text


def test_a_run_has_an_option_for_each_setting_and_its_default_is_the_specs() -> None:
    options = {name: parameter.default for name, parameter in inspect.signature(run).parameters.items()}
    for name, field in RunSpec.model_fields.items():
        if name not in {"study", "metric"}:  # of a config alone; None for all that the images support
            assert options[name] == (list(field.default) if name == "method" else field.default), name


def test_what_was_not_given_leaves_a_config_as_it_is(rapbench: Command) -> None:
    Path("run.toml").write_text(
        'model = "doubles:tiny"\nweights = "random"\ndataset = "doubles:Squares"\ndevice = "cpu"\n'
        'method = "random"\nmetric = "segmentation"\nlimit = 2\nseed = 5\n'
    )
    ran = json.loads(rapbench("run", "--config", "run.toml", "--limit", "3", "--json").out)["run"]
    assert (ran["model"], ran["method"], ran["limit"], ran["seed"]) == ("doubles:tiny", ["random"], 3, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "rapp"], "no method named 'rapp': did you mean rap?"),
        (["--model", "vgg-16"], "no model named 'vgg-16': did you mean vgg16?"),
        (["--dataset", "scene"], "no dataset named 'scene': did you mean scenes?"),
        (["--metric", "segmentaton"], "no metric named 'segmentaton': did you mean segmentation?"),
        (["--metric", "perturbation(spase=raw)"], "no parameter 'spase': did you mean space?"),
        (["--metric", "perturbation(space=blue)"], "space=blue"),
        (["--backend", "nativ"], "no backend named 'nativ': did you mean native?"),
        (["--weights", "nowhere.pt"], "nowhere.pt"),
        (["--weights", "IMAGENET1K_V9"], "IMAGENET1K_V"),
        (["--model", "alexnet"], "alexnet has no embedded weights for scenes: vgg16, resnet50 and vit_b_16 have"),
        (["--device", "tpu"], "device: "),
        (["--precision", "tf32", "--device", "cpu"], "tf32 is a mode of CUDA devices"),
        (["--limit", "0"], "limit: "),
        (["--config", "missing.toml"], "no config file missing.toml"),
        (["--dataset", "voc"], "VOC"),
        (["--dataset", "imagenet", "--data-root", "nowhere"], "nowhere"),
        (["--metod", "rap"], "--metod"),
        (["--limit", "many"], "'--limit'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_user_does_wrong_is_one_line_and_exit_code_2(
    rapbench: Command, arguments: list[str], message: str
) -> None:
    done = rapbench("run", *arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("rapbench: ")
    assert done.err.count("\n") == 1
    assert message in done.err


def test_an_empty_store_is_said_so(rapbench: Command) -> None:
    done = rapbench("table", "--out", "nothing")
    assert done.code == 2
    assert "no results in nothing" in done.err


def test_the_module_runs_like_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "rapbench", "--help"], capture_output=True, text=True, check=True)
    assert "run" in done.stdout

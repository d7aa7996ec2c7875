"""What a dry run looks at: nothing is trained, fitted or downloaded for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rapbench.doctor.probe import probe
from rapbench.run.rehearsal import rehearsed
from rapbench.run.spec import RunSpec

CASES = {
    "are trained on": {"model": "mnist_cnn", "dataset": "digits", "method": "gradient"},
    "a run downloads": {
        "model": "squeezenet1_1",
        "dataset": "doubles:Squares",
        "method": "gradient",
        "target": "goldfish",
    },
    "patterns are fitted": {"model": "vgg16", "dataset": "scenes", "method": "pattern_net", "metric": "guards"},
}


@pytest.mark.parametrize("remark", CASES)
def test_what_a_run_would_make_first_is_said_and_has_a_stand_in_that_is_timed(
    remark: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path))
    for name in (
        "torch.hub.download_url_to_file",
        "rapbench.models.digits.trained",
        "rapbench.run.resolve.patterns_for",
    ):
        monkeypatch.setattr(name, None)
    options = {**CASES[remark], "limit": 2, "device": "cpu", "out": tmp_path / "runs"}
    with rehearsed(RunSpec.read(None, options)) as found:
        (said,) = found.remarks
        costs = {cost.stage: cost for cost in probe(found.experiment, found.experiment.tasks())}
    assert remark in said
    assert costs[f"explaining by {options['method']}"].seconds > 0
    assert "random" not in found.experiment.classifier.title
    assert not any(tmp_path.rglob("*.parquet"))


def test_what_is_here_already_needs_no_stand_in() -> None:
    options = {"model": "doubles:tiny", "weights": "random", "dataset": "doubles:Squares", "method": "gradient"}
    with rehearsed(RunSpec.read(None, options)) as found:
        assert found.remarks == ()

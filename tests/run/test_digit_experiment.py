"""The digit experiment as a user runs it: the network trained, images converted, methods compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rapbench.datasets.mnist import Mnist
from rapbench.models.digits import trained

Run = Callable[..., tuple[list[dict[str, Any]], int]]
METHODS = "gradient,input_gradient,deeplift_rescale,deeplift_reveal_cancel"


def value(results: list[dict[str, Any]], method: str, variant: str) -> float:
    (found,) = [r for r in results if (r["method"], r["variant"]) == (method, variant)]
    return float(found["value"])


def test_embedded_digits_train_a_network_and_are_converted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rapbench.models.digits._FEWEST_STEPS", 150)
    options = {"dataset": "digits(digit=8)", "metric": "digit_conversion", "batch_size": 32, "limit": 20}
    results, computed = run(model="mnist_cnn", weights="auto", method=METHODS, **options)
    assert computed == 80
    for pair in ("8-3", "8-6"):
        assert value(results, "deeplift_reveal_cancel", f"log_odds@{pair}") > 0
        assert value(results, "input_gradient", f"log_odds@{pair}") > value(results, "gradient", f"log_odds@{pair}")
    for method in ("deeplift_rescale", "deeplift_reveal_cancel"):
        assert value(results, method, "residual") < 1e-5


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_on_mnist_the_network_is_as_accurate_as_the_papers_and_contributions_beat_gradients(
    run: Run, data_root: Path
) -> None:
    data = Mnist(data_root=data_root)
    net = trained(*data.training())
    images, labels = (torch.from_numpy(array) for array in data.arrays("test"))
    with torch.no_grad():
        predicted = net(images.unsqueeze(1).float() / 255).argmax(1)
    assert (predicted == labels).float().mean() >= 0.99
    options = {"dataset": "mnist(digit=8)", "metric": "digit_conversion", "batch_size": 32, "data_root": data_root}
    results, computed = run(model="mnist_cnn", weights="auto", method=METHODS, limit=96, **options)
    assert computed == 4 * 96
    for pair in ("8-3", "8-6"):
        conversion = {method: value(results, method, f"log_odds@{pair}") for method in METHODS.split(",")}
        assert min(conversion["deeplift_rescale"], conversion["deeplift_reveal_cancel"]) > conversion["gradient"]

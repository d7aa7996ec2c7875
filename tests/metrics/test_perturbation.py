"""Perturbation: a slow restatement of the curves, what exactly is erased, and the orders' laws."""

import numpy as np
import pytest
import torch

from rapbench.core.errors import BadConfig
from rapbench.metrics import perturbation
from rapbench.metrics.perturbation import Perturbation
from rapbench.report.statistics import estimate

SMALL = Perturbation(pixels=10, steps=6)


class Recorder:
    """A linear classifier that remembers what it was shown."""

    def __init__(self, weights):
        self.weights, self.batches = weights, []

    def __call__(self, x):
        self.batches.append(x.clone(memory_format=torch.preserve_format))
        return x.flatten(1) @ self.weights

    def inputs(self, n, steps):
        """Everything seen, (order, N, L, C, H, W)."""
        return torch.cat(self.batches).unflatten(0, (2, n, steps))


@pytest.fixture
def recorder(weights):
    return Recorder(weights)


def slow_curve(x, pixels, weights, target, *, step, steps, sign, fill):
    """Accuracy, probability and logit per step, erasing one pixel after the other."""
    rows, cols = pixels.shape
    order = sorted(range(rows * cols), key=lambda i: (sign * pixels[i // cols, i % cols], i))
    x, curve = x.copy(), []
    for k in range(steps + 1):
        logits = x.reshape(-1) @ weights
        exps = np.exp(logits - logits.max())
        curve.append((logits.argmax() == target, exps[target] / exps.sum(), logits[target]))
        for i in order[step * k : step * (k + 1)]:
            x[:, i // cols, i % cols] = fill
    return np.array(curve, dtype=np.float64).T


@pytest.mark.parametrize("space", ["net", "raw"])
def test_curves_equal_erasing_one_pixel_after_the_other(explain, weights, space):
    maps = torch.randint(-5, 6, (3, 24, 24)).double()  # many ties
    batch = explain(maps)
    columns = Perturbation(pixels=30, steps=8, space=space)(batch)
    fill = np.array(batch.black if space == "raw" else (0, 0, 0))
    for i in range(3):
        for order, sign in (("lerf", 1), ("morf", -1)):
            slow = slow_curve(
                batch.x[i].double().numpy(),
                maps[i].numpy(),
                weights.double().numpy(),
                batch.target[i].item(),
                step=30,
                steps=8,
                sign=sign,
                fill=fill,
            )
            for name, curve in zip(("accuracy", "probability", "logit"), slow, strict=True):
                np.testing.assert_allclose(columns[f"{order}_{name}"][i].numpy(), curve, rtol=1e-4, atol=1e-5)


def test_before_the_first_step_the_prediction_stands_and_is_not_classified_again(explain, recorder):
    batch = explain(torch.randn(4, 24, 24), classify=recorder)
    recorder.batches.clear()
    columns = SMALL(batch)
    assert columns["lerf_accuracy"][:, 0].tolist() == columns["morf_accuracy"][:, 0].tolist() == [1] * 4
    assert torch.equal(columns["lerf_logit"][:, 0], batch.logits.amax(1).double())
    assert sum(map(len, recorder.batches)) == 2 * 4 * 6


@pytest.mark.parametrize("space", ["net", "raw"])
def test_step_k_erases_exactly_k_times_the_pixels_in_all_channels(explain, recorder, space):
    batch = explain(torch.randn(4, 24, 24), classify=recorder)
    recorder.batches.clear()
    Perturbation(pixels=10, steps=6, space=space)(batch)
    seen = recorder.inputs(4, 6)
    changed = seen != batch.x[:, None]
    assert torch.equal(changed.all(3), changed.any(3))
    assert torch.equal(changed.all(3).sum((3, 4)), (10 * torch.arange(1, 7)).expand(2, 4, 6))
    fill = torch.tensor(batch.black if space == "raw" else (0.0,) * 3).view(3, 1, 1)
    assert torch.equal(seen, torch.where(changed, fill, batch.x[:, None]))


def test_least_and_most_relevant_pixels_are_disjoint_and_nested(explain, recorder):
    maps = torch.randn(3, 24, 24)
    batch = explain(maps, classify=recorder)
    recorder.batches.clear()
    SMALL(batch)
    least, most = (recorder.inputs(3, 6) != batch.x[:, None]).all(3)
    assert not (least & most).any()
    assert (least[:, 1:] >= least[:, :-1]).all()
    for i in range(3):
        assert maps[i][least[i, -1]].max() < maps[i][~least[i, -1]].min()
        assert maps[i][most[i, -1]].min() > maps[i][~most[i, -1]].max()


def test_ties_go_in_row_major_order_in_both_directions(explain, recorder):
    maps = torch.zeros(1, 24, 24)
    maps[0, 23, 23] = 1
    batch = explain(maps, classify=recorder)
    recorder.batches.clear()
    Perturbation(pixels=3, steps=1)(batch)
    least, most = (recorder.inputs(1, 1) != batch.x[:, None]).all(3).flatten(1)
    assert least.nonzero().flatten().tolist() == [0, 1, 2]
    assert most.nonzero().flatten().tolist() == [0, 1, 575]


def test_chunks_of_inputs_change_no_number(explain, monkeypatch):
    batch = explain(torch.randn(5, 24, 24))
    whole = SMALL(batch)
    for num_inputs in (1, 4, 14):
        monkeypatch.setattr(perturbation, "NUM_INPUTS", num_inputs)
        for name, column in SMALL(batch).items():
            torch.testing.assert_close(column, whole[name], rtol=1e-5, atol=1e-6)


def test_no_call_builds_more_inputs_than_the_bound(explain, recorder, monkeypatch):
    monkeypatch.setattr(perturbation, "NUM_INPUTS", 16)
    batch = explain(torch.randn(5, 24, 24), classify=recorder)
    recorder.batches.clear()
    SMALL(batch)
    Perturbation(pixels=1, steps=20)(batch)
    assert max(map(len, recorder.batches)) == 16


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_perturbed_inputs_keep_the_memory_format(explain, recorder, memory_format):
    x = torch.randn(3, 3, 24, 24).contiguous(memory_format=memory_format)
    batch = explain(torch.randn(3, 24, 24), x=x, classify=recorder)
    SMALL(batch)
    assert all(inputs.is_contiguous(memory_format=memory_format) for inputs in recorder.batches)


def test_the_classifiers_own_gradient_orders_best_and_its_negative_worst(explain, weights, rows_of):
    x = torch.randn(6, 3, 24, 24)
    target = (x.flatten(1) @ weights).argmax(1)
    own = x * weights.T[target].view(x.shape)
    variants = Perturbation().variants(signed=True)
    scores = {}
    for name, relevance in {"own": own, "noise": torch.randn_like(own), "negated": -own}.items():
        rows = rows_of(SMALL(explain(relevance, x=x)))
        scores[name] = {key: estimate(v, rows, seed=0, resamples=2).value for key, v in variants.items()}
    for key, variant in variants.items():
        gain = [
            scores[name][key] * (1 if variant.direction == "higher" else -1) for name in ("own", "noise", "negated")
        ]
        assert gain == sorted(gain, reverse=True)
        assert gain[0] > gain[2]


def test_areas_are_means_over_all_steps_with_step_zero(explain, rows_of):
    columns = SMALL(explain(torch.randn(4, 24, 24)))
    lerf, morf = columns["lerf_probability"].numpy(), columns["morf_probability"].numpy()
    expected = {
        "lerf_aopc_probability": sum(lerf[:, 0] - lerf[:, k] for k in range(7)).mean() / 7,
        "morf_aopc_probability": sum(morf[:, 0] - morf[:, k] for k in range(7)).mean() / 7,
        "abpc_probability": sum(lerf[:, k] - morf[:, k] for k in range(7)).mean() / 7,
        "lerf_aopc_accuracy": 1 - columns["lerf_accuracy"].mean().item(),
    }
    rows, variants = rows_of(columns), SMALL.variants(signed=True)
    for name, value in expected.items():
        assert estimate(variants[name], rows, seed=0).value == pytest.approx(value)


def test_undefined_maps_are_dropped_and_cost_no_classification(explain, recorder, rows_of):
    maps = torch.randn(4, 24, 24)
    maps[0], maps[1, 0, 0] = 0.5, torch.nan
    batch = explain(maps, classify=recorder, target=torch.tensor([3, 2, 1, 0]))
    recorder.batches.clear()
    columns = SMALL(batch)
    assert sum(map(len, recorder.batches)) == 2 * 2 * 6
    defined = SMALL(explain(maps[2:], x=batch.x[2:], target=batch.target[2:]))
    torch.testing.assert_close(columns["morf_logit"][2:], defined["morf_logit"], rtol=1e-5, atol=1e-6)
    assert columns["morf_logit"].isnan().all(1).tolist() == [True, True, False, False]
    rows = rows_of(columns, label=[0, 0, 1, 0], target=0)
    result = estimate(SMALL.variants(signed=True)["abpc_accuracy"], rows, seed=0)
    assert result.dropped == {"constant map": 1, "non-finite relevance": 1, "misclassified": 1}
    assert result.n == 1


def test_a_batch_of_undefined_maps_classifies_nothing(explain, recorder):
    batch = explain(torch.zeros(2, 24, 24), classify=recorder)
    recorder.batches.clear()
    assert SMALL(batch)["lerf_accuracy"].isnan().all()
    assert recorder.batches == []


def test_negative_and_zero_pixels_are_counted(explain):
    maps = torch.randint(-2, 3, (3, 24, 24)).float()
    columns = SMALL(explain(maps))
    assert columns["num_negative"].tolist() == [int((m < 0).sum()) for m in maps]
    assert columns["num_zero"].tolist() == [int((m == 0).sum()) for m in maps]


@pytest.mark.parametrize("field", ["pixels", "steps", "images"])
def test_a_parameter_below_one_is_refused(field):
    with pytest.raises(ValueError, match=f"{field} must be at least 1, not 0"):
        Perturbation(**{field: 0})


def test_erasing_more_pixels_than_there_are_is_refused(explain):
    with pytest.raises(BadConfig, match="6 steps of 100 pixels erase 600, but the image has 576"):
        Perturbation(pixels=100, steps=6)(explain(torch.randn(1, 24, 24)))

"""Perturbation: a slow restatement of the curves, what exactly is erased, and the orders' laws."""

import numpy as np
import pytest
import torch

from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig
from rapbench.metrics import METRICS, masked
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


def slow_curve(x, pixels, weights, target, *, step, steps, sign, black, ties=None, stop=False):
    """Accuracy, probability and logit per step, erasing one pixel after the other."""
    rows, cols = pixels.shape
    before = range(rows * cols) if ties is None else ties.argsort().tolist()
    order = sorted(range(rows * cols), key=lambda i: (sign * pixels[i // cols, i % cols], before[i]))
    if stop:
        order = [i for i in order if sign * pixels[i // cols, i % cols] < 0]
    x, curve = x.copy(), []
    for k in range(steps + 1):
        logits = x.reshape(-1) @ weights
        exps = np.exp(logits - logits.max())
        curve.append((logits.argmax() == target, exps[target] / exps.sum(), logits[target]))
        for i in order[step * k : step * (k + 1)]:
            x[:, i // cols, i % cols] = black
    return np.array(curve, dtype=np.float64).T


@pytest.mark.parametrize("space", ["net", "raw"])
@pytest.mark.parametrize("ties", ["row_major", "random"])
@pytest.mark.parametrize("fill", ["continue", "stop"])
def test_curves_equal_erasing_one_pixel_after_the_other(explain, weights, space, ties, fill):
    maps = torch.randint(-5, 6, (3, 24, 24)).double()  # many ties
    maps[1, 4:] = maps[1, 4:].abs()
    maps[2, 3:] = -maps[2, 3:].abs()
    batch = explain(maps)
    columns = Perturbation(pixels=30, steps=8, space=space, ties=ties, fill=fill)(batch)
    black = np.array(batch.network.black if space == "raw" else (0, 0, 0))
    for i in range(3):
        shuffle = torch.randperm(576, generator=torch.Generator().manual_seed(batch.batch.seeds[i].item()))
        for order, sign in (("lerf", 1), ("morf", -1)):
            slow = slow_curve(
                batch.batch.x[i].double().numpy(),
                maps[i].numpy(),
                weights.double().numpy(),
                batch.target[i].item(),
                step=30,
                steps=8,
                sign=sign,
                black=black,
                ties=shuffle if ties == "random" else None,
                stop=fill == "stop",
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
    changed = seen != batch.batch.x[:, None]
    assert torch.equal(changed.all(3), changed.any(3))
    assert torch.equal(changed.all(3).sum((3, 4)), (10 * torch.arange(1, 7)).expand(2, 4, 6))
    black = torch.tensor(batch.network.black if space == "raw" else (0.0,) * 3).view(3, 1, 1)
    assert torch.equal(seen, torch.where(changed, black, batch.batch.x[:, None]))


def test_least_and_most_relevant_pixels_are_disjoint_and_nested(explain, recorder):
    maps = torch.randn(3, 24, 24)
    batch = explain(maps, classify=recorder)
    recorder.batches.clear()
    SMALL(batch)
    least, most = (recorder.inputs(3, 6) != batch.batch.x[:, None]).all(3)
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
    least, most = (recorder.inputs(1, 1) != batch.batch.x[:, None]).all(3).flatten(1)
    assert least.nonzero().flatten().tolist() == [0, 1, 2]
    assert most.nonzero().flatten().tolist() == [0, 1, 575]


def test_random_ties_depend_on_the_images_seed_alone(explain, recorder):
    maps, x = (torch.randn(2, 24, 24) > 0).float(), torch.randn(2, 3, 24, 24)
    metric = Perturbation(pixels=10, steps=1, ties="random")

    def erased(*images, seeds):
        batch = explain(maps[[*images]], x=x[[*images]], seeds=torch.tensor(seeds), classify=recorder)
        recorder.batches.clear()
        metric(batch)
        return (recorder.inputs(len(images), 1) != batch.batch.x[:, None]).all(3)[:, :, 0]

    both = erased(0, 1, seeds=[7, 8])
    assert torch.equal(erased(1, 0, seeds=[8, 7]), both.flip(1))
    assert torch.equal(erased(1, seeds=[8]), both[:, 1:])
    assert not torch.equal(erased(1, seeds=[9]), both[:, 1:])
    for i in range(2):
        assert (maps[i][both[0, i]] == 0).all()
        assert (maps[i][both[1, i]] == 1).all()


def test_random_ties_change_nothing_where_there_are_none(explain):
    batch = explain(torch.randn(3, 24, 24).double())
    columns, others = (Perturbation(pixels=10, steps=6, ties=ties)(batch) for ties in ("row_major", "random"))
    assert all(torch.equal(columns[name], others[name]) for name in columns)


def signs(*num_negative):
    """Maps whose first so many pixels are negative, then two zeros, the rest positive, all different."""
    values = torch.arange(1.0, 577) / 576
    flat = torch.stack([torch.cat([-values[:n], torch.zeros(2), values[n + 2 :]]) for n in num_negative])
    return flat.view(-1, 24, 24)


def test_stopping_erases_only_negative_pixels_least_relevant_first_and_positive_ones_most(explain, recorder):
    batch = explain(signs(25, 574 - 25), classify=recorder)
    recorder.batches.clear()
    Perturbation(pixels=10, steps=6, fill="stop")(batch)
    gone = [
        (part != batch.batch.x[i]).all(1).sum((1, 2)).tolist()
        for i, part in split(recorder, [(0, 3), (1, 6), (0, 6), (1, 3)])
    ]
    assert gone == [[10, 20, 25], [10, 20, 30, 40, 50, 60], [10, 20, 30, 40, 50, 60], [10, 20, 25]]


def split(recorder, parts):
    """What was classified, as (image, inputs) with so many inputs each."""
    inputs = torch.cat(recorder.batches).split([count for _, count in parts])
    return [(image, seen) for (image, _), seen in zip(parts, inputs, strict=True)]


@pytest.mark.parametrize(("num_negative", "passes"), [(0, 0), (1, 1), (10, 1), (11, 2), (59, 6), (60, 6), (61, 6)])
def test_once_stopped_nothing_is_classified_and_the_curve_stays(explain, recorder, num_negative, passes):
    batch = explain(signs(num_negative), classify=recorder)
    recorder.batches.clear()
    columns = Perturbation(pixels=10, steps=6, fill="stop")(batch)
    assert sum(map(len, recorder.batches)) == passes + 6
    for name in ("lerf_accuracy", "lerf_probability", "lerf_logit"):
        assert columns[name][0, passes:].unique().numel() == 1
    assert columns["lerf_logit"][0].unique().numel() == passes + 1


def test_stopping_changes_nothing_where_enough_pixels_have_the_sign(explain):
    batch = explain(signs(60, 500, 514))
    columns, others = (Perturbation(pixels=10, steps=6, fill=fill)(batch) for fill in ("continue", "stop"))
    assert all(torch.equal(columns[name], others[name]) for name in columns)


@pytest.mark.parametrize("fill", ["continue", "stop"])
def test_the_share_of_images_that_run_short_of_a_sign_is_reported(explain, rows_of, fill):
    metric = Perturbation(pixels=10, steps=6, fill=fill)
    rows = rows_of(metric(explain(signs(0, 59, 60, 515))))
    variants = metric.variants(signed=True)
    assert estimate(variants["lerf_share_short"], rows, seed=0).value == 50
    assert estimate(variants["morf_share_short"], rows, seed=0).value == 25


def test_chunks_of_inputs_change_no_number(explain, monkeypatch):
    batch = explain(torch.randn(5, 24, 24))
    whole = SMALL(batch)
    for num_inputs in (1, 4, 14):
        monkeypatch.setitem(masked.NUM_INPUTS, "cpu", num_inputs)
        for name, column in SMALL(batch).items():
            torch.testing.assert_close(column, whole[name], rtol=1e-5, atol=1e-5)  # float32 sums of 1,728 terms


def test_no_call_builds_more_inputs_than_the_bound(explain, recorder, monkeypatch):
    monkeypatch.setitem(masked.NUM_INPUTS, "cpu", 16)
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
    variants = {name: v for name, v in SMALL.variants(signed=True).items() if "short" not in name}
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
        "lerf_aopc_logit": (columns["lerf_logit"][:, :1] - columns["lerf_logit"]).mean().item(),
        "morf_aopc_logit": (columns["morf_logit"][:, :1] - columns["morf_logit"]).mean().item(),
        "abpc_logit": (columns["lerf_logit"] - columns["morf_logit"]).mean().item(),
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
    defined = SMALL(explain(maps[2:], x=batch.batch.x[2:], target=batch.target[2:]))
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
    assert columns["num_positive"].tolist() == [int((m > 0).sum()) for m in maps]
    assert columns["num_zero"].tolist() == [int((m == 0).sum()) for m in maps]


@pytest.mark.parametrize("field", ["pixels", "steps", "images"])
def test_a_parameter_below_one_is_refused(field):
    with pytest.raises(BadConfig, match=f"{field}=0: Input should be greater than or equal to 1"):
        METRICS.build(Call("perturbation", {field: "0"}))


def test_erasing_more_pixels_than_there_are_is_refused(explain):
    with pytest.raises(BadConfig, match="6 steps of 100 pixels erase 600, but the image has 576"):
        Perturbation(pixels=100, steps=6)(explain(torch.randn(1, 24, 24)))


@pytest.mark.parametrize("order", ["lerf", "morf"])
def test_one_order_alone_gives_its_columns_and_variants_and_classifies_nothing_else(explain, recorder, rows_of, order):
    batch = explain(torch.randn(3, 24, 24), classify=recorder)
    both, one = SMALL, Perturbation(pixels=10, steps=6, orders=order)
    columns = both(batch)
    recorder.batches.clear()
    alone = one(batch)
    assert sum(map(len, recorder.batches)) == 3 * 6
    other = {"lerf": "morf", "morf": "lerf"}[order]
    assert set(columns) - set(alone) == {f"{other}_{name}" for name in ("accuracy", "probability", "logit")}
    assert all(torch.equal(alone[name], columns[name]) for name in alone)
    variants, rows = one.variants(signed=True), rows_of(alone)
    assert set(variants) == {name for name in both.variants(signed=True) if name.startswith(order)}
    for name, variant in variants.items():
        whole = both.variants(signed=True)[name]
        assert variant.direction == whole.direction
        assert estimate(variant, rows, seed=0, resamples=2) == estimate(whole, rows_of(columns), seed=0, resamples=2)

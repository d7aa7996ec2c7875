"""The masked forward passes against a loop over images, steps and pixels, for every kind of metric built on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from rapbench.metrics import masked
from rapbench.metrics.masked import beyond, colour, each_alone, masked_scores, picture, ranks, up_to

N, C, SIDE, K = 3, 2, 6, 4


@pytest.fixture
def classify() -> Callable[[Tensor], Tensor]:
    """A network that is not linear, in float64."""
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(*s, generator=draw).double() for s in ((C * SIDE * SIDE, 16), (16, K)))
    return lambda x: (x.flatten(1).double() @ first).tanh() @ second


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N, C, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture
def rank() -> Tensor:
    """A random order of the pixels of each image."""
    draw = torch.Generator().manual_seed(2)
    return torch.stack([torch.randperm(SIDE * SIDE, generator=draw) for _ in range(N)]).view(N, SIDE, SIDE).int()


def logits_of(logits: Tensor, images: Tensor) -> Tensor:
    """The logits and whose they are."""
    return torch.cat([logits, images.unsqueeze(1)], 1)


def looped(
    classify: Callable[[Tensor], Tensor],
    start: Tensor,
    rank: Tensor,
    spans: list[tuple[int, int]],
    shown: Callable[[int, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Logits (N, L, K) by replacing one pixel after the other; `shown` gives a picture for an image and its mask."""
    found = np.zeros((N, len(spans), K))
    for n in range(N):
        for step, (first, last) in enumerate(spans):
            image, gone = start[n].numpy().copy(), np.zeros((SIDE, SIDE), bool)
            for row in range(SIDE):
                for col in range(SIDE):
                    gone[row, col] = first <= rank[n, row, col] < last
            instead = shown(n, gone)
            for row, col in np.argwhere(gone):
                image[:, row, col] = instead[:, row, col]
            found[n, step] = classify(torch.from_numpy(image)[None])[0].numpy()
    return found


@pytest.fixture(params=[1, 4, 5, 1024])
def num_inputs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many inputs at once."""
    monkeypatch.setitem(masked.NUM_INPUTS, "cpu", request.param)
    count: int = request.param
    return count


@pytest.mark.usefixtures("num_inputs")
def test_erasing_more_and_more_equals_the_loop(classify: Callable[[Tensor], Tensor], x: Tensor, rank: Tensor) -> None:
    counts = torch.tensor([0, 1, 7, 36])
    found = masked_scores(classify, x, rank, up_to(counts), colour((0.5, -1.0), x), logits_of, K + 1)
    black = np.broadcast_to(np.array([0.5, -1.0])[:, None, None], (C, SIDE, SIDE))
    slow = looped(classify, x, rank, [(0, int(count)) for count in counts], lambda n, gone: black)
    np.testing.assert_allclose(found[..., :K].numpy(), slow, rtol=1e-12)
    assert torch.equal(found[..., K], torch.arange(N).double()[:, None].expand(N, 4))


@pytest.mark.usefixtures("num_inputs")
def test_revealing_an_image_in_another_picture_ends_at_the_image(
    classify: Callable[[Tensor], Tensor], x: Tensor, rank: Tensor
) -> None:
    blurred, counts = x.mean((2, 3), keepdim=True).expand_as(x).contiguous(), torch.tensor([0, 9, 36])
    found = masked_scores(classify, blurred, rank, up_to(counts), picture(x), logits_of, K + 1)[..., :K]
    slow = looped(classify, blurred, rank, [(0, int(count)) for count in counts], lambda n, gone: x[n].numpy())
    np.testing.assert_allclose(found.numpy(), slow, rtol=1e-12)
    torch.testing.assert_close(found[:, 0], classify(blurred))
    torch.testing.assert_close(found[:, 2], classify(x))


@pytest.mark.usefixtures("num_inputs")
def test_showing_more_and_more_of_the_image_equals_the_loop(
    classify: Callable[[Tensor], Tensor], x: Tensor, rank: Tensor
) -> None:
    found = masked_scores(classify, x, rank, beyond(torch.tensor([0, 5, 36]), 36), colour((1.0,), x), logits_of, K + 1)
    nothing = np.ones((C, SIDE, SIDE))
    slow = looped(classify, x, rank, [(0, 36), (5, 36), (36, 36)], lambda n, gone: nothing)
    np.testing.assert_allclose(found[..., :K].numpy(), slow, rtol=1e-12)
    torch.testing.assert_close(found[:, 2, :K], classify(x))


@pytest.mark.usefixtures("num_inputs")
def test_each_group_alone_leaves_the_others_as_they_were(classify: Callable[[Tensor], Tensor], x: Tensor) -> None:
    cells = ranks(torch.randn(N, 3, 3), descending=True).repeat_interleave(2, 1).repeat_interleave(2, 2)
    found = masked_scores(classify, x, cells, each_alone(torch.arange(1, 10)), colour((0.0,), x), logits_of, K + 1)
    nothing = np.zeros((C, SIDE, SIDE))
    slow = looped(classify, x, cells, [(k, k + 1) for k in range(9)], lambda n, gone: nothing)
    np.testing.assert_allclose(found[..., :K].numpy(), slow, rtol=1e-12)


@pytest.mark.usefixtures("num_inputs")
def test_what_is_imputed_may_depend_on_all_that_goes(
    classify: Callable[[Tensor], Tensor], x: Tensor, rank: Tensor
) -> None:
    def left(images: Tensor, gone: Tensor) -> Tensor:
        """The mean colour of what is left of each image."""
        stay = (~gone).unsqueeze(1)
        return (x[images] * stay).sum((2, 3), keepdim=True) / stay.sum((2, 3), keepdim=True)

    def slow_left(n: int, gone: np.ndarray) -> np.ndarray:
        mean = [x[n, c].numpy()[~gone].mean() for c in range(C)]
        return np.broadcast_to(np.array(mean)[:, None, None], (C, SIDE, SIDE))

    counts = torch.tensor([3, 20, 35])
    found = masked_scores(classify, x, rank, up_to(counts), left, logits_of, K + 1)[..., :K]
    slow = looped(classify, x, rank, [(0, int(count)) for count in counts], slow_left)
    np.testing.assert_allclose(found.numpy(), slow, rtol=1e-12)


@pytest.mark.usefixtures("num_inputs")
def test_counts_may_differ_between_images(classify: Callable[[Tensor], Tensor], x: Tensor, rank: Tensor) -> None:
    counts = torch.tensor([[1, 2], [10, 20], [0, 36]])
    found = masked_scores(classify, x, rank, up_to(counts), colour((0.0,), x), logits_of, K + 1)
    for n in range(N):
        alone = masked_scores(classify, x, rank, up_to(counts[n]), colour((0.0,), x), logits_of, K + 1)
        torch.testing.assert_close(found[n], alone[n])


def test_steps_that_are_not_wanted_are_not_classified(
    classify: Callable[[Tensor], Tensor], x: Tensor, rank: Tensor
) -> None:
    shown: list[int] = []

    def counting(inputs: Tensor) -> Tensor:
        shown.append(len(inputs))
        return classify(inputs)

    every = masked_scores(classify, x, rank, up_to(torch.arange(3)), colour((0.0,), x), logits_of, K + 1)
    wanted = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    found = masked_scores(counting, x, rank, up_to(torch.arange(3)), colour((0.0,), x), logits_of, K + 1, wanted)
    torch.testing.assert_close(found[wanted], every[wanted])
    assert found[~wanted].isnan().all()
    assert sum(shown) == 3
    masked_scores(counting, x, rank, up_to(torch.arange(3)), colour((0.0,), x), logits_of, K + 1, wanted & False)
    assert sum(shown) == 3


def test_batches_are_filled_across_images(
    classify: Callable[[Tensor], Tensor], x: Tensor, rank: Tensor, num_inputs: int
) -> None:
    shown: list[int] = []

    def counting(inputs: Tensor) -> Tensor:
        shown.append(len(inputs))
        return classify(inputs)

    masked_scores(counting, x, rank, up_to(torch.arange(7)), colour((0.0,), x), logits_of, K + 1)
    assert shown[:-1] == [num_inputs] * (len(shown) - 1)
    assert sum(shown) == 7 * N


def test_no_step_asks_the_device_for_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(masked.NUM_INPUTS, "meta", 16)  # a device of shapes, which has no values to give
    x, values = torch.empty(8, 3, 12, 12, device="meta"), torch.empty(8, 12, 12, device="meta")
    rank = ranks(values, descending=True)
    found = masked_scores(
        lambda inputs: inputs.flatten(1)[:, :5], x, rank, up_to(torch.arange(10)), picture(x), logits_of, 6
    )
    assert found.shape == (8, 10, 6)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_inputs_keep_the_memory_format(x: Tensor, rank: Tensor, memory_format: torch.memory_format) -> None:
    start = x.contiguous(memory_format=memory_format)

    def classify(inputs: Tensor) -> Tensor:
        assert inputs.is_contiguous(memory_format=memory_format)
        return inputs.flatten(1)[:, :K]

    for shown in (colour((0.0,), x), picture(start), picture(x.contiguous())):
        masked_scores(classify, start, rank, up_to(torch.tensor([4])), shown, logits_of, K + 1)

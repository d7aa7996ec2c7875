"""How much of a unit's output is left in what a signal estimator calls the distractor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rapbench.core.errors import UnsupportedLayer
from rapbench.relprop.layers import Convolution, Weighted

WIDEST = 4608
"""Most inputs of a unit for which their covariance is formed; that of wider layers stays a product of rows."""
ROWS = 8192
"""Most samples kept of a wider layer."""
_RIDGE = 1e-6
"""Added to the diagonal of the inputs' covariance, times its mean."""


class Samples(NamedTuple):
    """What a layer read and gave at some positions of some images, P samples of G groups.

    Attributes:
        x: (G, P, D) patches, float64.
        y: (G, P, U) w·x of each unit, without the bias: what an estimator multiplies its direction with.
        on: (G, P, U) whether the unit fires, which the bias decides too.
    """

    x: Tensor
    y: Tensor
    on: Tensor

    def of(self, units: Tensor) -> Samples:
        """The same for some units."""
        return Samples(self.x, self.y[:, :, units], self.on[:, :, units])

    def sides(self) -> Tensor:
        """The outputs where y > 0 and the others, each 0 elsewhere, (2, G, P, U)."""
        return torch.stack([self.y * self.on, self.y * ~self.on])


def samples(layer: Weighted, x: Tensor, y: Tensor, positions: int, generator: torch.Generator) -> Samples:
    """Samples of a layer's inputs and outputs (with bias) at random positions of every image.

    A convolution gives `positions` samples an image, drawn without repetition, or all it has; a dense layer one.
    """
    bias = torch.zeros_like(y) + layer.bias_like(y)
    if not isinstance(layer, Convolution):
        rows, given = x.flatten(0, -2), torch.stack([y.double() - bias, y > 0]).flatten(1, -2)
        return Samples(rows.double().unsqueeze(0), given[:1], given[1:].bool())
    if len(layer.stride) != 2:
        raise UnsupportedLayer(f"signal quality has no patches for {layer.operation} at node {layer.name!r}")
    windows = _windows(layer, x)
    number = windows.shape[2] * windows.shape[3]
    chosen = [torch.randperm(number, generator=generator)[:positions] for _ in range(len(x))]
    image = torch.arange(len(x)).repeat_interleave(len(chosen[0]))
    row, col = torch.cat(chosen) // windows.shape[3], torch.cat(chosen) % windows.shape[3]
    patches, outputs, biases = (t[image, :, row, col].double() for t in (windows, y, bias))
    grouped = (t.view(len(t), layer.groups, -1).transpose(0, 1) for t in (patches, outputs - biases, outputs))
    x, y, decided = grouped
    return Samples(x, y, decided > 0)


def _windows(layer: Convolution, x: Tensor) -> Tensor:
    """Every patch (N, C, H, W, k, k), as a view."""
    (rows, cols), sizes = layer.padding, layer.weight.shape[2:]
    windows = functional.pad(layer.padded(x), (cols, cols, rows, rows))
    for axis, (size, stride, gap) in enumerate(zip(sizes, layer.stride, layer.dilation, strict=True)):
        windows = windows.unfold(2 + axis, (size - 1) * gap + 1, stride)
    return windows[..., :: layer.dilation[0], :: layer.dilation[1]]


class Spread:
    """Means and covariances of a layer's samples: of the inputs with each other and with either side of the outputs.

    y+ and y- are w·x of U units where they fire and where they do not, 0 elsewhere; D inputs, G groups.
    """

    def __init__(self, groups: int, inputs: int, units: int, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.wide = inputs > WIDEST
        self.count = 0
        self.x, self.y, self.yy = zeros(groups, inputs), zeros(2, groups, units), zeros(2, groups, units)
        self.xy = zeros(2, groups, units, inputs)
        self.xx = zeros(groups, 0 if self.wide else inputs, inputs)
        self.rows: list[Tensor] = []

    def add(self, found: Samples) -> None:
        """Counts samples; of a wide layer, as long as there is room."""
        if self.wide:
            found = Samples(*(t[:, : ROWS - self.count] for t in found))
            self.rows.append(found.x)
        else:
            self.xx += found.x.transpose(1, 2) @ found.x
        self.count += found.x.shape[1]
        self.x += found.x.sum(1)
        sides, x = found.sides(), found.x
        self.y += sides.sum(2)
        self.yy += sides.square().sum(2)
        self.xy += sides.transpose(2, 3) @ x

    def inverse(self, b: Tensor) -> Tensor:
        """(Cov[x] + λ)⁻¹ b for columns b (G, D, R)."""
        mean = self.x / self.count
        if not self.wide:
            covariance = self.xx / self.count - mean.unsqueeze(2) * mean.unsqueeze(1)
            diagonal = covariance.diagonal(dim1=1, dim2=2)
            diagonal += _ridge(diagonal.sum(1), covariance.shape[1])
            return _solved(covariance, b)
        centred = torch.cat(self.rows, 1) - mean.unsqueeze(1)
        ridge = _ridge(centred.square().sum((1, 2)) / self.count, centred.shape[2])
        gram = centred @ centred.transpose(1, 2)
        gram.diagonal(dim1=1, dim2=2).add_(ridge * self.count)
        return (b - centred.transpose(1, 2) @ _solved(gram, centred @ b)) / ridge.unsqueeze(2)

    def with_outputs(self) -> Tensor:
        """cov[x, y+] and cov[x, y-], (2, G, U, D)."""
        return self.xy / self.count - (self.y / self.count).unsqueeze(3) * (self.x / self.count).unsqueeze(1)

    def of_outputs(self) -> Tensor:
        """Covariance (G, U, 2, 2) of y+ and y-."""
        mean = self.y / self.count
        product = -mean.unsqueeze(0) * mean.unsqueeze(1)  # (2, 2, G, U)
        product += torch.diag_embed((self.yy / self.count).permute(1, 2, 0)).permute(2, 3, 0, 1)
        return product.permute(2, 3, 0, 1)


def _solved(a: Tensor, b: Tensor) -> Tensor:
    solution: Tensor = torch.linalg.solve(a, b)
    return solution


def _ridge(trace: Tensor, inputs: int) -> Tensor:
    """λ (G, 1) for traces (G,)."""
    return (_RIDGE * trace / inputs).unsqueeze(1)


@dataclass(frozen=True)
class Directions:
    """An estimator S(x) = a₊ w·x where a unit fires, a₋ w·x elsewhere: its directions (G, U, D) for U units.

    Source: Kindermans et al. 2018, Eq. 4.
    """

    plus: Tensor
    minus: Tensor


def readouts(spread: Spread, estimators: Mapping[str, Directions]) -> dict[str, Tensor]:
    """Least squares v (G, U, D) of each estimator: what best predicts y from the distractor d = x - S(x) is v·d.

    v = (Cov[d] + λ)⁻¹ cov[d, y], in closed form: d depends on the unit, but Cov[d] is Cov[x], which all units share,
    plus U M Uᵀ with the four columns U = (a₊, a₋, cov[x, y₊], cov[x, y₋]).

    Source: Kindermans et al. 2018, Eq. 1; Woodbury's identity.
    """
    towards, outputs = spread.with_outputs(), spread.of_outputs()
    shape = towards.shape[1:]
    every = torch.stack([*towards, *(side for e in estimators.values() for side in (e.plus, e.minus))])
    solved = spread.inverse(every.permute(1, 3, 0, 2).flatten(2))  # one factorisation for all
    solved = solved.view(shape[0], shape[2], len(every), shape[1]).permute(2, 0, 3, 1)
    found = {}
    for n, (name, estimator) in enumerate(estimators.items()):
        columns = torch.stack([estimator.plus, estimator.minus, *towards], -1)  # (G, U, D, 4)
        inverse = torch.stack([*solved[2 + 2 * n : 4 + 2 * n], *solved[:2]], -1)
        found[name] = _readout(columns, inverse, outputs)
    return found


def _readout(columns: Tensor, inverse: Tensor, outputs: Tensor) -> Tensor:
    """V (G, U, D) from the columns U, (Cov[x] + λ)⁻¹ U, both (G, U, D, 4), and Cov[y±] (G, U, 2, 2)."""
    weights = torch.cat([-outputs.sum(3), torch.ones_like(outputs.sum(3))], 2).unsqueeze(3)  # cov[d, y] = U · weights
    one = torch.eye(2).to(outputs).expand_as(outputs)
    lower = torch.cat([-one, -outputs], 3)
    middle = torch.cat([torch.cat([torch.zeros_like(one), -one], 3), lower], 2)  # M⁻¹
    inner = columns.transpose(2, 3) @ inverse
    correction = _solved(middle + inner, inner @ weights)
    return (inverse @ (weights - correction)).squeeze(3)


class Correlations:
    """Running correlation of y with v·d for every estimator and unit."""

    def __init__(self, estimators: Mapping[str, Directions], readout: Mapping[str, Tensor]) -> None:
        self.readout = torch.stack(list(readout.values()))  # (E, G, U, D)
        sides = [torch.stack([getattr(e, side) for e in estimators.values()]) for side in ("plus", "minus")]
        self.gains = [(side * self.readout).sum(3).unsqueeze(2) for side in sides]  # v·a, (E, G, 1, U)
        self.count = 0
        self.sums = self.readout.new_zeros(5, *self.readout.shape[:3])

    def add(self, found: Samples) -> None:
        """Counts samples."""
        signal = sum((gain * side for gain, side in zip(self.gains, found.sides(), strict=True)), start=torch.tensor(0))
        z, y = found.x @ self.readout.transpose(2, 3) - signal, found.y  # (E, G, P, U)
        self.count += found.x.shape[1]
        self.sums += torch.stack([v.sum(2) for v in (z, y.expand_as(z), z * y, z * z, (y * y).expand_as(z))])

    def rho(self) -> Tensor:
        """ρ(S) = 1 - corr[y, v·d], (E, G, U); NaN where an output does not vary, 1 where the distractor says nothing.

        Source: Kindermans et al. 2018, Eq. 1.
        """
        z, y, zy, zz, yy = self.sums / self.count
        varies = yy - y * y > 1e-12 * yy
        scale = ((zz - z * z) * (yy - y * y)).clamp(min=0).sqrt()
        correlation = torch.where(scale > 0, (zy - z * y) / scale, 0)
        return torch.where(varies, 1 - correlation, torch.nan)

"""Figures of signal estimators: their quality layer by layer, and how fast their maps degrade the prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rapbench.metrics.degradation import Degradation
from rapbench.report.figures import Drawing, Stored, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_COLOURS = ("#999999", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
"""Told apart by any kind of colour vision. Source: Okabe and Ito 2008."""
_ESTIMATOR_COLOURS = dict(zip(("random", "S_x", "S_w", "S_a", "S_a+-"), _COLOURS, strict=False))
"""The same in both figures."""
_DASHES: tuple[Any, ...] = (":", "--", "-.", "-", (0, (4, 1, 1, 1, 1, 1)), (0, (6, 2)))
_ESTIMATORS = {
    "random": "random",
    "input_gradient": "S_x",
    "signal_w": "S_w",
    "pattern_attribution_a": "S_a",
    "pattern_attribution": "S_a+-",
}
"""The methods that are the paper's estimators, in the order of its legend."""
_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Figure3:
    """Boxes over the units of each layer of ρ(S), higher is better: quartiles, median, and whiskers to 5 and 95 %.

    Source: Kindermans et al. 2018, Figure 3.
    """

    metric: ClassVar[str] = "signal_quality"
    command: ClassVar[str] = "rapbench run --config configs/pattern2017_figure3.toml"

    def __call__(self, stored: Sequence[Stored]) -> list[Drawing]:
        names = [one.display["model"] for one in stored]
        return [
            Drawing(
                suffix=name if names.count(name) == 1 else f"{name}_{n}",
                figure=_boxes(one.rows, _title_of_quality(one)),
                points=quantiles(one.rows),
            )
            for n, (name, one) in enumerate(zip(names, stored, strict=True))
        ]


def quantiles(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a layer and estimator: quantiles and mean of rho over the units that have one, and how many have none."""
    found = []
    for (layer, estimator), group in rows.groupby(["layer", "estimator"], sort=False):
        rho = group["rho"].dropna().to_numpy()
        ends = np.quantile(rho, (0.05, 0.25, 0.5, 0.75, 0.95)) if len(rho) else np.full(5, np.nan)
        row = {"layer": layer, "kind": group["kind"].iloc[0], "inputs": group["inputs"].iloc[0], "estimator": estimator}
        row |= {"mean": rho.mean() if len(rho) else np.nan}
        row |= dict(zip(("p5", "p25", "p50", "p75", "p95"), ends, strict=True))
        found.append({**row, "units": len(rho), "undefined": len(group) - len(rho)})
    return pd.DataFrame(found)


def _title_of_quality(stored: Stored) -> str:
    sets = stored.identity["dataset"]
    fitting, reading, scoring = (sets[key][2] - sets[key][1] for key in ("fitting", "reading", "scoring"))
    images = f"fitted to {fitting} images, v from {reading}, scored on {scoring}"
    return f"{stored.display['model_title']}, {sets['name']}: {images}"


def _boxes(rows: pd.DataFrame, title: str) -> Figure:
    """One group of boxes a layer, one box an estimator."""
    table = quantiles(rows)
    layers, estimators = list(dict.fromkeys(table["layer"])), list(dict.fromkeys(table["estimator"]))
    with styled():
        figure = Figure(figsize=(6.9, 2.7), layout="constrained")
        axes = figure.subplots()
        width = 0.8 / len(estimators)
        for n, estimator in enumerate(estimators):
            own = table[table["estimator"] == estimator].set_index("layer").loc[layers]
            at = np.arange(len(layers), dtype=np.float64) + (n - (len(estimators) - 1) / 2) * width
            _box(axes, own, at, width, _ESTIMATOR_COLOURS[estimator], estimator)
        kinds = table.drop_duplicates("layer").set_index("layer")["kind"]
        axes.set_xticks(range(len(layers)), _layer_names([kinds[layer] for layer in layers]), rotation=45)
        axes.set_ylabel("ρ(S)")
        axes.set_ylim(bottom=min(-0.05, float(table["p5"].min())))  # so that boxes at 0 are seen
        axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
        axes.axhline(1, color="0.8", linewidth=0.6, zorder=0)
        axes.set_title(title, parse_math=False)
        figure.legend(loc="outside lower center", ncols=len(estimators), frameon=False)
        _bare(axes)
    return figure


def _box(axes: Axes, table: pd.DataFrame, at: NDArray[np.floating], width: float, colour: str, name: str) -> None:
    height = table["p75"] - table["p25"]
    axes.bar(at, height, 0.8 * width, table["p25"], color=colour, alpha=0.45, label=name, linewidth=0)
    axes.vlines(at, table["p5"], table["p95"], color=colour, linewidth=0.7)
    axes.hlines(table["p50"], at - 0.4 * width, at + 0.4 * width, color=colour, linewidth=1.6)


def _layer_names(kinds: Sequence[str]) -> list[str]:
    """Layers numbered within their kind: conv 1, conv 2, ..., dense 1."""
    short = {"convolution": "conv", "dense": "dense"}
    return [f"{short[kind]} {kinds[: n + 1].count(kind)}" for n, kind in enumerate(kinds)]


@dataclass(frozen=True, kw_only=True)
class Figure4a:
    """The explained class's mean probability while patches lose their content, with 95 % intervals over images.

    A drawing for each network and data set; the estimators of the paper under its names, other methods under theirs.

    Source: Kindermans et al. 2018, Figure 4a.
    """

    metric: ClassVar[str] = "degradation"
    command: ClassVar[str] = "rapbench run --config configs/pattern2017_figure4a.toml"

    def __call__(self, stored: Sequence[Stored]) -> list[Drawing]:
        groups: dict[tuple[str, ...], list[Stored]] = {}
        for one in stored:
            key = (one.display["dataset"], one.display["model"], one.display["weights"], one.display["metric"])
            groups.setdefault(key, []).append(one)
        return [self._drawing("_".join(key[:2]) if len(groups) > 1 else "", g) for key, g in groups.items()]

    def _drawing(self, suffix: str, stored: list[Stored]) -> Drawing:
        order = [*_ESTIMATORS]
        stored = sorted(stored, key=lambda one: (_place(order, one), one.display["method"]))
        curves = {_name(one): degradation_curve(one) for one in stored}
        points = pd.concat([curve.assign(method=name) for name, curve in curves.items()], ignore_index=True)
        display = stored[0].display
        title = f"{display['model_title']}, {display['dataset']}"
        return Drawing(suffix=suffix, figure=_curves(curves, title), points=points)


def _place(order: Sequence[str], stored: Stored) -> int:
    name = stored.identity["method"]["name"]
    return order.index(name) if name in order else len(order)


def _name(stored: Stored) -> str:
    name = stored.identity["method"]["name"]
    return _ESTIMATORS.get(name) or str(stored.display["method"])


def degradation_curve(stored: Stored) -> pd.DataFrame:
    """A row a step: mean probability, its 95 % bootstrap interval over images, the mean fall, images.

    Images are dropped as the metric's own numbers drop them, and resampled alike for every method that keeps the same.
    """
    metric = Degradation(**stored.identity["metric"]["parameters"])
    rows = stored.rows
    for holds in metric.variants(signed=True)["mean_drop"].undefined.values():
        rows = rows[~holds(rows)]
    curves = np.stack(rows["probability"].to_list()).astype(np.float64)
    n = len(curves)
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), _RESAMPLES) / n
    low, high = np.quantile(draws @ curves, (0.025, 0.975), axis=0)
    mean = curves.mean(axis=0)
    steps = np.arange(curves.shape[1])
    return pd.DataFrame(
        {"patches": steps, "probability": mean, "ci_low": low, "ci_high": high, "fall": mean[0] - mean, "n": n}
    )


def _curves(curves: Mapping[str, pd.DataFrame], title: str) -> Figure:
    with styled():
        figure = Figure(figsize=(3.6, 2.7), layout="constrained")
        axes = figure.subplots()
        for n, (name, curve) in enumerate(curves.items()):
            colour = _ESTIMATOR_COLOURS.get(name, _COLOURS[n % len(_COLOURS)])
            dash = _DASHES[n % len(_DASHES)]
            axes.plot(curve["patches"], curve["probability"], color=colour, linestyle=dash, linewidth=1.2, label=name)
            axes.fill_between(
                curve["patches"], curve["ci_low"], curve["ci_high"], color=colour, alpha=0.12, linewidth=0
            )
        counts = sorted({int(curve["n"].iloc[0]) for curve in curves.values()})
        axes.set_title(
            f"{title}, n = {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))}", parse_math=False
        )
        axes.set_xlabel("patches replaced by their mean, most relevant first")
        axes.set_ylabel("probability of the class first predicted")
        axes.set_ylim(0, 1)
        axes.legend(frameon=False)
        _bare(axes)
    return figure


def _bare(axes: Axes) -> None:
    axes.grid(axis="y", color="0.9", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

"""The curves of a figure restated, its looks, and files that depend on the numbers alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from stored import cell, held

from rapbench.core.catalogue import Call
from rapbench.core.errors import BadConfig
from rapbench.methods import METHODS, is_control
from rapbench.papers.card import Figure as FigureCard
from rapbench.papers.card import exhibit, exhibits
from rapbench.report.critical_difference import CriticalDifference
from rapbench.report.curves import PerturbationCurves, survival
from rapbench.report.figures import (
    FIGURES,
    FORMS,
    GREY,
    Drawing,
    FigureKind,
    called,
    colour,
    label,
    rendered,
    styled,
    written,
)
from rapbench.report.formats import printable
from rapbench.results.store import Held, Rows

FIGURES_OF_PAPERS = {name: found.kind() for name in exhibits() if isinstance(found := exhibit(name), FigureCard)}
FIGURE_7 = FIGURES_OF_PAPERS["rap2020/figure7"]
TITLES = {"rap": "RAP", "lrp_a2b1": "LRP α2β1", "gradient": "Gradient", "random": "Random", "center": "Centre"}
STEPS = 8


def stored(method: str = "rap", survived: float = 0.9, images: int = 20, **given: Any) -> Held:
    """Rows of images of which a share survives each step, the fewer the further."""
    generator = np.random.default_rng(len(method))
    last = generator.random((images, 1)) < survived ** np.arange(STEPS + 1)
    lerf = np.logical_and.accumulate(last, axis=1).astype(float)
    rows = pd.DataFrame(
        {
            "index": range(images),
            "label": 3,
            "target": 3,
            "num_non_finite": 0,
            "constant": 0,
            "lerf_accuracy": list(lerf),
            "morf_accuracy": list(lerf[:, ::-1]),
        }
    )
    setting = {"pixels": 50, "steps": STEPS} | ({"space": given.pop("space")} if "space" in given else {})
    metric = str(Call("perturbation", {key: str(value) for key, value in setting.items()}))
    model = given.pop("model", "vgg16")
    own = cell(method, metric=metric, dataset="scenes", model=model, title=f"{model} (narrow)", **given)
    space = own.identity.metric.parameters["space"]
    return held(replace(own, metric="perturbation" + (f"(space={space})" if space == "raw" else "")), rows)


def lines(axes: Axes) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in axes.get_lines()}


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_lines()]


def only(drawings: list[Drawing]) -> Drawing:
    (drawing,) = drawings
    return drawing


def test_a_curve_is_the_share_of_images_that_keep_their_class() -> None:
    one = stored()
    found = survival(one, "lerf")
    assert found.x.tolist() == [50 * k for k in range(STEPS + 1)]
    for k in range(STEPS + 1):
        assert found.y[k] == pytest.approx(sum(row[k] for row in one.rows.frame["lerf_accuracy"]) / 20)


def test_the_band_is_what_resampling_images_converges_to() -> None:
    found = survival(stored(), "lerf")
    survived = np.stack(stored().rows.frame["lerf_accuracy"].to_list())
    means = survived[np.random.default_rng(1).integers(20, size=(20000, 20))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    np.testing.assert_allclose(found.ci_low, low, atol=1 / 20 + 1e-9)  # an end may fall on the next whole image
    np.testing.assert_allclose(found.ci_high, high, atol=1 / 20 + 1e-9)
    assert (np.abs(found.ci_low - low) < 1e-9).mean() > 0.7


def test_images_without_a_value_are_dropped_as_the_metric_drops_them() -> None:
    one = stored()
    one.rows.frame.loc[0, "num_non_finite"] = 1
    one.rows.frame.loc[1, "constant"] = 1
    one.rows.frame.loc[2, "label"] = 4
    one.rows.frame["lerf_accuracy"] = [np.full(STEPS + 1, np.nan), *one.rows.frame["lerf_accuracy"][1:]]
    one.rows.frame.loc[3, "label"] = -1  # unknown: not held against it
    found = survival(one, "lerf")
    assert found.n == 17
    assert found.y[1] == np.mean([row[1] for row in one.rows.frame["lerf_accuracy"][3:]])


def test_a_method_without_any_image_has_no_curve() -> None:
    one = stored()
    one.rows.frame["constant"] = 1
    assert survival(one, "lerf").n == 0
    empty = Held(cell=one.cell, read=lambda: Rows(pd.DataFrame(), ()))
    assert PerturbationCurves()([empty]) == []


def test_an_order_that_was_not_computed_has_no_curve() -> None:
    one = stored()
    metric = replace(one.cell.identity.metric, parameters={**one.cell.identity.metric.parameters, "orders": "lerf"})
    only_lerf = replace(one.cell, identity=replace(one.cell.identity, metric=metric))
    assert survival(held(only_lerf, one.rows.frame), "morf").n == 0
    assert survival(held(only_lerf, one.rows.frame), "lerf").n == 20


def test_a_method_without_images_is_named_and_does_not_count() -> None:
    nothing = stored("gradient")
    nothing.rows.frame["constant"] = 1
    drawing = only(PerturbationCurves()([stored(), nothing]))
    (axes,) = panels(drawing.figure)
    assert axes.get_title().endswith("n = 20")
    assert drawing.notes == ("Gradient has no defined image",)


def test_the_order_chosen_is_the_order_drawn() -> None:
    lerf, morf = (only(PerturbationCurves(order=order)([stored()])) for order in ("lerf", "morf"))
    assert (lerf.suffix, morf.suffix) == ("", "morf")
    assert lerf.points["accuracy"].tolist() == morf.points["accuracy"].tolist()[::-1]


def test_points_are_what_is_drawn() -> None:
    drawing = only(PerturbationCurves()([stored(), stored("random", 0.5)]))
    (axes,) = panels(drawing.figure)
    for title, accuracy in lines(axes).items():
        method = {value: key for key, value in TITLES.items()}[title]
        assert drawing.points[drawing.points["method"] == method]["accuracy"].tolist() == accuracy.tolist()
    assert {"method", "pixels", "accuracy", "ci_low", "ci_high", "n"} <= set(drawing.points)


def test_the_paper_s_methods_come_first_and_controls_last() -> None:
    names = ("random", "mylab:Foo", "gradient", "lrp_a1b0", "lrp_a2b1", "rap")
    drawing = only(FIGURE_7([stored(name) for name in names]))
    assert list(dict.fromkeys(drawing.points["method"])) == [
        "rap",
        "lrp_a2b1",
        "lrp_a1b0",
        "gradient",
        "mylab:Foo",
        "random",
    ]
    (legend,) = drawing.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "RAP",
        "LRP α2β1",
        "LRP α1β0",
        "Gradient",
        "mylab:Foo",
        "Random",
    ]


def test_axes_are_named_as_in_the_paper() -> None:
    (axes,) = panels(only(FIGURE_7([stored()])).figure)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("number of perturbed pixels", "accuracy")
    assert axes.get_title() == "vgg16 (narrow)\nscenes, n = 20"


def test_methods_differ_in_colour_and_line_and_controls_are_thin_and_grey() -> None:
    names = ("rap", "lrp_a2b1", "gradient", "random", "center")
    (axes,) = panels(only(PerturbationCurves()([stored(name) for name in names])).figure)
    looks = {line.get_label(): line for line in axes.get_lines()}
    shown = [looks[TITLES[name]] for name in names]
    for values in ([line.get_color() for line in shown[:3]], [line.get_marker() for line in shown[:3]]):
        assert len(set(values)) == 3
    controls = shown[3:]
    assert {line.get_color() for line in controls} == {"0.55"}
    assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in controls}) == 2
    assert all(line.get_linewidth() < shown[1].get_linewidth() for line in controls)


def test_a_method_has_one_colour_in_every_figure_whatever_else_is_in_it() -> None:
    others = ("lrp_a2b1", "lrp_a1b0", "gradient", "input_gradient", "guided_backprop", "center")
    seen = set()
    for methods in (["rap"], [*others, "rap"], ["rap", *reversed(others)], ["rap(routing=paper)", *others[2:]]):
        (axes,) = panels(only(PerturbationCurves()([stored(method) for method in methods])).figure)
        seen |= {(str(line.get_label()).partition(" (")[0], line.get_color()) for line in axes.get_lines()}
    assert len(seen) == len({name for name, _ in seen}) == len({shade for _, shade in seen}) == 7
    assert ("Centre", GREY) in seen


def test_every_control_is_grey_and_no_other_method_is() -> None:
    assert {name for name in METHODS if colour(name) == GREY} == {name for name in METHODS if is_control(name)}
    assert colour("mylab:Foo") == colour("mylab:Foo") != GREY
    assert colour("mylab:Foo") not in {colour(name) for name in ("rap", "gradient", "lrp_a1b0")}


def test_two_settings_of_a_method_differ_in_marker_and_line() -> None:
    (axes,) = panels(only(PerturbationCurves()([stored("rap"), stored("rap(routing=paper)")])).figure)
    one, other = axes.get_lines()
    assert one.get_color() == other.get_color()
    assert one.get_marker() != other.get_marker()
    assert one.get_linestyle() != other.get_linestyle()


def test_long_labels_stay_inside_the_figure_and_cover_no_curve() -> None:
    methods = [f"mylab:Foo(alpha={k}, bias=innvestigate, batch_norm=rule, a=1, b=2, c=3)" for k in range(3)]
    figure = only(PerturbationCurves()([stored(method) for method in methods])).figure
    with styled():
        figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert (box.x0 >= 0, box.x1 <= figure.bbox.x1, box.y0 >= 0) == (True, True, True)
    assert all(box.y1 <= axes.get_window_extent().y0 for axes in figure.axes)


def test_no_curve_is_hidden_by_another_of_the_same_numbers() -> None:
    alike = [stored("rap", 1.0), stored("lrp_a2b1", 1.0), stored("center", 1.0)]
    (axes,) = panels(only(PerturbationCurves()(alike)).figure)
    shown = sorted(axes.get_lines(), key=lambda line: line.get_zorder())  # a stable sort: what is drawn last is on top
    assert [line.get_label() for line in shown] == ["RAP", "LRP α2β1", "Centre"]
    assert [line.get_linestyle() for line in shown] == ["-", "--", "--"]
    widths = [line.get_linewidth() for line in shown]
    assert widths == sorted(widths, reverse=True)


def test_a_control_that_leaves_the_panel_is_said_to() -> None:
    figure = only(PerturbationCurves()([stored(survived=0.99), stored("random", 0.2)])).figure
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["RAP", "Random (leaves the panel)"]


@pytest.mark.parametrize("name", ["$x^{$", "\x1b[31m", "a\nb", "%", "\\frac{", "<b>", "_^_", "&amp;"])
@pytest.mark.parametrize("form", FORMS)
def test_no_name_is_a_command_in_a_figure(form: Any, name: str) -> None:
    method = str(Call("mylab:Foo", {"z": name}))
    drawing = only(PerturbationCurves()([replace_titles(stored(method), name)]))
    assert rendered(drawing.figure, form)
    (axes,) = panels(drawing.figure)
    assert axes.get_title().startswith(printable(name))
    assert printable(name) in drawing.figure.legends[0].get_texts()[0].get_text()


def replace_titles(one: Held, name: str) -> Held:
    return Held(cell=replace(one.cell, model_title=name, method_title=name), read=one.read)


def test_files_have_safe_names_and_no_formulas(tmp_path: Path) -> None:
    drawing = only(PerturbationCurves()([replace_titles(stored(), "=1+1")]))
    files = written(replace(drawing, suffix="a=../../b c:\n*?"), "mylab:PAPER/figure1", tmp_path)
    assert {file.parent for file in files} == {tmp_path}
    assert {file.stem for file in files} == {"mylab.PAPER_figure1_a=..-..-b-c"}
    points = pd.read_csv(files[-1])
    assert set(points["model_title"]) == {"'=1+1"}
    assert points["accuracy"].tolist() == drawing.points["accuracy"].tolist()


def test_a_method_looks_the_same_in_every_panel() -> None:
    both = [stored("lrp_a2b1"), stored("rap"), stored("rap", model="resnet50")]
    left, right = panels(only(PerturbationCurves()(both)).figure)
    assert left.get_title().startswith("vgg16")
    looks = [{line.get_label(): line.get_color() for line in axes.get_lines()} for axes in (left, right)]
    assert looks[0]["RAP"] == looks[1]["RAP"]
    assert list(looks[1]) == ["RAP"]


def test_each_setting_of_the_metric_has_a_drawing_of_its_own() -> None:
    drawings = PerturbationCurves()([stored(), stored(space="raw")])
    assert [drawing.suffix for drawing in drawings] == ["", "space-raw"]
    assert "space = raw" in panels(drawings[1].figure)[0].get_title()


def test_runs_that_differ_in_anything_else_have_panels_that_say_so() -> None:
    drawing = only(PerturbationCurves()([stored(), stored(seed=1)]))
    assert [axes.get_title().rpartition(", ")[2] for axes in panels(drawing.figure)] == ["seed 0", "seed 1"]


def test_different_numbers_of_images_are_told() -> None:
    (axes,) = panels(only(PerturbationCurves()([stored(), stored("random", images=9)])).figure)
    assert "n = 9 to 20" in axes.get_title()


def test_the_vertical_range_holds_every_method_and_a_curve_that_stays_at_one() -> None:
    (axes,) = panels(only(PerturbationCurves()([stored(survived=1.0), stored("lrp_a2b1", 0.99)])).figure)
    low, high = axes.get_ylim()
    assert 0 < low < 1 < high < 1.05
    (axes,) = panels(only(PerturbationCurves()([stored(survived=0.99), stored("random", 0.2)])).figure)
    assert axes.get_ylim()[0] > 0  # a control may not squeeze the methods


def test_three_panels_leave_no_empty_frame() -> None:
    figure = only(PerturbationCurves()([stored(model=model) for model in ("vgg16", "resnet50", "alexnet")])).figure
    assert len(figure.axes) == 3


@pytest.mark.parametrize("form", FORMS)
def test_the_same_rows_give_the_same_bytes_whatever_the_reader_s_settings(form: Any) -> None:
    once = rendered(only(FIGURE_7([stored(), stored("random")])).figure, form)
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": None, "lines.linewidth": 9}):
        again = rendered(only(FIGURE_7([stored(), stored("random")])).figure, form)
    assert once == again


def test_a_label_names_parameters_and_foreign_backends() -> None:
    assert label("RAP", "rap", "native") == "RAP"
    assert label("LRP α1β0", "lrp_a1b0(bias=signed)", "zennit") == "LRP α1β0 (bias=signed) [zennit]"


@pytest.mark.parametrize("kind", [*(FIGURES.load(name)() for name in FIGURES), *(FIGURES_OF_PAPERS.values())], ids=str)
def test_every_figure_says_what_it_needs_and_draws_nothing_from_nothing(kind: FigureKind) -> None:
    assert kind.metric or isinstance(kind, CriticalDifference)  # which takes the rows of all metrics
    assert kind([]) == []


def test_an_order_must_be_one_of_the_two() -> None:
    from rapbench.core.catalogue import Call

    with pytest.raises(BadConfig, match="order=up"):
        FIGURES.build(Call("perturbation", {"order": "up"}))


def test_a_figure_calls_a_file_by_its_name_and_what_it_holds() -> None:
    own = cell("pattern_attribution", digest="0123456789")
    identity = replace(own.identity, method=replace(own.identity.method, parameters={}))
    typed = replace(own, identity=identity, method="pattern_attribution(patterns='/far, away/p.safetensors')")
    assert called(typed) == "PatternAttribution (patterns=p.safetensors 012345)"
    assert called(cell("lrp_a1b0(bias=signed)", digest="0123456789")) == "LRP α1β0 (bias=signed)"

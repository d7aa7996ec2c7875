"""Which cells belong together, and how those that do not are told apart."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from stored import cell

from rapbench.results.select import Filter, differing, grouped, names, of_one_setting, option


def test_one_group_holds_what_was_measured_alike_whatever_the_method() -> None:
    cells = [cell("rap"), cell("rap", seed=1), cell("gradient"), cell("rap", metric="guards")]
    groups = grouped(cells, lambda own: own)
    assert [[own.method for own in group.members] for group in groups] == [["rap", "gradient"], ["rap"], ["rap"]]
    assert [group.remark for group in groups] == ["seed 0", "seed 1", ""]


def test_only_what_the_names_do_not_tell_is_told() -> None:
    groups = grouped([cell("rap"), cell("rap", model="vgg19"), cell("rap", dataset="voc", seed=3)], lambda own: own)
    assert [group.remark for group in groups] == ["", "", ""]


def test_a_class_explained_that_is_not_the_predicted_one_is_always_told() -> None:
    (alone,) = grouped([cell("rap", target="label")], lambda own: own)
    assert alone.remark == "target label"
    both = grouped([cell("rap"), cell("rap", target="3")], lambda own: own)
    assert [group.remark for group in both] == ["target predicted", "target 3"]


def test_what_differs_is_told_with_its_values_in_order() -> None:
    assert differing([cell("rap", seed=2), cell("gradient", seed=1)]) == {"seed": ["1", "2"]}
    assert differing([cell("rap"), cell("gradient")]) == {}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("seed", "1", "--seed 1"),
        ("target", "label", "--target label"),
        ("model.weights", "random", "--weights random"),
        ("dataset.parameters.preprocess", "crop", '--dataset "voc(preprocess=crop)"'),
        ("model.digest", "d", ""),
    ],
)
def test_an_option_narrows_what_it_can(key: str, value: str, expected: str) -> None:
    assert option(key, value, "voc") == expected


def test_foreign_backends_and_files_tell_rows_apart() -> None:
    cells = [cell("rap"), cell("rap", backend="captum"), cell("gradient", digest="a"), cell("gradient", digest="b")]
    assert names(cells) == ["rap", "rap [captum]", "gradient [file a]", "gradient [file b]"]


@pytest.mark.parametrize(
    "wanted",
    [
        *(
            {"model": "vgg16"},
            {"dataset": "voc"},
            {"dataset": "voc(preprocess=crop)"},
            {"weights": "a/b/IMAGENET1K_V1"},
        ),
        *({"select": "correct"}, {"target": "label"}, {"seed": 1}, {"precision": "fp64"}, {"device": "cuda"}),
        *({"metrics": ("outside_inside",)}, {"metrics": ("guards", "outside_inside")}),
        *({"methods": ("lrp_a2b1",)}, {"methods": ("lrp_a2b1(bias=signed)",)}, {}),
    ],
    ids=str,
)
def test_a_filter_admits_what_it_names(wanted: dict[str, object]) -> None:
    own = {"dataset": "voc", "select": "correct", "target": "label", "seed": 1, "precision": "fp64", "device": "cuda"}
    chosen = cell("lrp_a2b1(bias=signed)", **own, parameters={"preprocess": "crop"})  # type: ignore[arg-type]
    assert Filter(**wanted).admits(chosen)  # type: ignore[arg-type]
    other = cell("rap", metric="segmentation", model="vgg19", weights="random", parameters={"preprocess": "squash"})
    assert not wanted or not Filter(**wanted).admits(other)  # type: ignore[arg-type]


def test_a_filter_is_written_as_options() -> None:
    assert str(Filter(model="vgg16", seed=0, methods=("rap", "random"))) == "--model vgg16 --seed 0 --method rap,random"
    assert str(Filter(metrics=("guards", "segmentation"))) == "--metric guards,segmentation"
    assert not str(Filter())


def test_options_of_a_filter_pass_through_a_shell() -> None:
    asked = Filter(dataset="voc(preprocess=crop)", weights="my runs/$a.pth", methods=("lrp_a2b1(bias=signed)", "rap"))
    words = ["--dataset", "voc(preprocess=crop)", "--weights", "my runs/$a.pth"]
    assert shlex.split(str(asked)) == [*words, "--method", "lrp_a2b1(bias=signed),rap"]
    assert "'voc(preprocess=crop)'" in str(asked)


def test_cells_of_one_setting_are_together_whatever_their_method_and_metric() -> None:
    cells = [cell("rap"), cell("rap", seed=1), cell("gradient", metric="guards")]
    found = of_one_setting(cells, lambda own: own)
    assert [[own.method for own in some] for some in found] == [["rap", "gradient"], ["rap"]]


def test_where_images_lie_is_not_held_and_any_folder_that_is_there_will_do(tmp_path: Path) -> None:
    chosen = cell("rap", dataset="folder", parameters={"masks": "file"})
    assert Filter(dataset=f"folder(path={tmp_path})").admits(chosen)
    assert not Filter(dataset=f"folder(path={tmp_path / 'none'})").admits(chosen)
    assert not Filter(dataset="folder(preprocess=crop)").admits(chosen)

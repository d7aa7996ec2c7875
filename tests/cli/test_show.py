"""`rapbench show`: any picture in, heatmaps and the prediction out, one line for what cannot be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from doubles import tiny
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner, Result

from rapbench.cli.show import show
from rapbench.core.errors import BadConfig, BadData, RapbenchError, UnknownName
from rapbench.report import heatmaps
from rapbench.report.heatmaps import Row

Show = Callable[..., Result]
TINY = ["--model", "doubles:tiny", "--weights", "tiny.pt"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows of the last figure."""
    rows: list[Row] = []
    draw = heatmaps.heatmaps

    def watched(given: list[Row], *options: object) -> object:
        rows[:] = given
        return draw(given, *options)

    monkeypatch.setattr(heatmaps, "heatmaps", watched)
    return rows


@pytest.fixture
def rapbench_show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, drawn: list[Row]) -> Show:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAPBENCH_DATA", raising=False)
    torch.save(tiny().state_dict(), "tiny.pt")
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(show)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        if isinstance(result.exception, RapbenchError):
            raise result.exception
        if result.exception:
            raise result.exception
        return result

    return run


def save(name: str, mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(name)
    return name


def test_a_picture_a_prediction_and_a_heatmap_for_each_method(rapbench_show: Show, drawn: list[Row]) -> None:
    done = rapbench_show("scenes:12", "scenes:3", "--method", "rap,lrp_a1b0(bias=signed)", "--method", "random")
    lines = done.stdout.splitlines()
    assert [line.split(":")[:2] for line in lines[:2]] == [["scenes", "12"], ["scenes", "3"]]
    assert "zigzag heart (5), logit 4.59, p = 0.96" in lines[0]
    assert lines[2] == "heatmaps.png"
    with Image.open("heatmaps.png") as picture:
        assert picture.width > 800
    first, second = drawn
    assert list(first.maps) == ["RAP", "LRP α1β0 (bias=signed)", "Random"]
    assert first.photo.shape == (224, 224, 3)
    assert first.caption == "zigzag heart (5)\nlogit 4.59, p = 0.96"
    assert first.maps["RAP"].sum() == pytest.approx(4.59, abs=0.01)
    assert not np.array_equal(first.maps["Random"], second.maps["Random"])


def test_maps_made_elsewhere_are_drawn_beside_the_picture_that_they_are_of(
    rapbench_show: Show, drawn: list[Row]
) -> None:
    Path("pictures").mkdir()
    for name in ("a", "b"):
        save(f"pictures/{name}.png")
    array = np.random.default_rng(0).standard_normal((2, 224, 224))
    np.save("maps.npy", array)
    rapbench_show("folder(path=pictures):1", *TINY, "--method", "maps(path=maps.npy)")
    (drawn_map,) = drawn[0].maps.values()
    assert np.allclose(drawn_map, array[1])


@pytest.mark.parametrize(
    ("name", "mode", "note"),
    [
        ("a.jpg", "RGB", ""),
        ("a.png", "RGBA", "converted from RGB with alpha"),
        ("a.jpg", "L", "converted from grey"),
        ("a.jpg", "CMYK", "converted from CMYK"),
        ("scenes:1", "P", "converted from palette"),
    ],
)
def test_any_picture_file_will_do(rapbench_show: Show, drawn: list[Row], name: str, mode: str, note: str) -> None:
    if name == "scenes:1":  # a file of that name is a file
        Path(save("a.png", mode)).rename(name)
    else:
        save(name, mode)
    printed = rapbench_show(name, *TINY, "--method", "doubles:Counting", "--to", "out.svg").stdout.splitlines()
    assert printed[0].startswith(f"{name}: ")
    assert printed[0].endswith(f"({note})" if note else printed[0][-1])
    assert drawn[0].photo.shape == (224, 224, 3)
    assert Path("out.svg").read_text().startswith("<?xml")


def test_relevance_is_summed_over_channels_with_its_sign(rapbench_show: Show, drawn: list[Row]) -> None:
    rapbench_show(save("a.png"), *TINY, "--method", "doubles:Counting")
    normalised = (drawn[0].photo - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(drawn[0].maps["Counting"], normalised.sum(2), atol=1e-5)


def test_the_class_can_be_chosen_by_name_or_index(rapbench_show: Show, drawn: list[Row]) -> None:
    save("a.png")
    maps = []
    for target in ("tabby", "TABBY", "281"):
        assert "tabby (281), logit" in rapbench_show("a.png", *TINY, "--target", target).stdout
        assert drawn[0].caption.startswith("tabby (281)\nlogit")
        assert "\npredicted " in drawn[0].caption
        maps.append(drawn[0].maps["RAP"])
    assert np.array_equal(maps[0], maps[2])
    rapbench_show("a.png", *TINY)
    assert "predicted" not in drawn[0].caption
    assert not np.array_equal(drawn[0].maps["RAP"], maps[0])


@pytest.mark.slow
def test_the_layers_of_propagating_methods_are_drawn_from_the_input_on(rapbench_show: Show, drawn: list[Row]) -> None:
    rapbench_show("scenes:12", "--layers", "--method", "rap,lrp_a2b1")
    assert [row.name for row in drawn] == ["RAP", "LRP α2β1"]
    sides = [224, 112, 56, 28, 14, 7]
    for row in drawn:
        assert [title.splitlines()[1] for title in row.maps] == [f"{side} × {side}" for side in sides]
        assert [values.shape for values in row.maps.values()] == [(side, side) for side in sides]
    assert [title.splitlines()[0] for title in drawn[0].maps][:3] == ["input", "features.4", "features.9"]
    for values in drawn[0].maps.values():
        assert values.sum() == pytest.approx(4.59, abs=0.01)  # all relevance passes there
    whole = drawn[0].maps["input\n224 × 224"]
    rapbench_show("scenes:12", "--method", "rap")
    assert np.array_equal(drawn[0].maps["RAP"], whole)


def test_layers_inside_of_a_residual_branch_are_left_out(rapbench_show: Show, drawn: list[Row]) -> None:
    rapbench_show("scenes:12", "--layers", "--model", "resnet50", "--method", "lrp_z_plus")
    titles = [title.splitlines()[0] for title in drawn[0].maps]
    assert titles[:3] == ["input", "conv1", "maxpool"]
    assert all(re.fullmatch(r"layer\d\.\d\.add", title) for title in titles[3:])
    assert len(titles) == 6


@pytest.mark.parametrize("options", [["--method", "gradient"], ["--method", "lrp_epsilon", "--backend", "zennit"]])
def test_layers_of_other_methods_are_refused(rapbench_show: Show, options: list[str]) -> None:
    if "zennit" in options:
        pytest.importorskip("zennit")
    with pytest.raises(BadConfig, match="does not propagate relevance"):
        rapbench_show("scenes:12", "--layers", *options)


@pytest.mark.slow
def test_another_backend_draws_its_own_map(rapbench_show: Show, drawn: list[Row]) -> None:
    pytest.importorskip("zennit")
    rapbench_show("scenes:12", "--method", "lrp_epsilon", "--backend", "zennit")
    other = drawn[0].maps["LRP ε [zennit]"]
    rapbench_show("scenes:12", "--method", "lrp_epsilon")
    np.testing.assert_allclose(other, drawn[0].maps["LRP ε"], atol=1e-3 * np.abs(other).max())


def test_the_network_and_its_weights_stand_above_the_pictures(
    rapbench_show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: list[object] = []
    monkeypatch.setattr(heatmaps, "heatmaps", lambda _, *given: options.extend(given) or Figure())
    rapbench_show("scenes:12", "--method", "random", "--scale", "99")
    assert options == ["vgg16 (width 1/8, scenes weights)", 99]


def test_a_photograph_is_not_explained_by_the_network_of_the_scenes_unasked(rapbench_show: Show) -> None:
    save("good.png")
    with pytest.raises(BadConfig, match=r"good.png by IMAGENET1K_V1, scenes:12 by scenes; pass one"):
        rapbench_show("good.png", "scenes:12")
    assert "good.png: " in rapbench_show("good.png", "--weights", "scenes", "--method", "random").stdout


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["nowhere.jpg"], BadData, "missing image: nowhere.jpg"),
        (["text.jpg"], BadData, "unreadable image: text.jpg"),
        (["."], BadData, r"unreadable image: \."),
        (["scene:1"], UnknownName, "did you mean scenes"),
        (["scenes:50000"], BadConfig, "scenes holds images 0 to 49999"),
        (["scenes:1", "--method", "rapp"], UnknownName, "did you mean rap"),
        (["scenes:1", "--to", "a.gif"], BadConfig, r"cannot write a.gif: .* \.png, \.svg, \.pdf"),
        (["scenes:1", "--target", "zigzag hart"], UnknownName, "near: zigzag heart"),
        *((["scenes:1", "--scale", scale], BadConfig, f"--scale {scale}: pass max") for scale in ("nan", "0", "most")),
        (["scenes:1", "--target", "12"], BadConfig, "from 0 to 11"),
        (["scenes:1", "--target", "-1"], UnknownName, "'-1'"),
        (["good.png", *TINY, "--target", "Cardigan"], BadConfig, "classes 264 and 474"),
        (["good.png", *TINY[:2], "--weights", "random", "--target", "cat"], BadConfig, "index from 0 to 999"),
    ],
)
def test_what_a_user_does_wrong_is_said(
    rapbench_show: Show, arguments: list[str], error: type[RapbenchError], message: str
) -> None:
    Path("text.jpg").write_text("no picture")
    save("good.png")
    with pytest.raises(error, match=message):
        rapbench_show(*arguments)
    assert not Path("heatmaps.png").exists()


@pytest.mark.data
def test_a_photograph_is_drawn(data_root: Path, rapbench_show: Show, drawn: list[Row]) -> None:
    done = rapbench_show("voc(preprocess=crop):0", "--data-root", str(data_root), *TINY)
    assert done.stdout.startswith("voc(preprocess=crop):0: ")
    assert drawn[0].photo.std() > 0.05

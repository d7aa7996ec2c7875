"""Maps that were made elsewhere: whose they are, what is refused, and that they score as what made them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h5py
import numpy as np
import pytest
import torch
from pandas.testing import assert_frame_equal

from rapbench.core.catalogue import parse_call
from rapbench.core.errors import BadConfig, BadData, DataMissing, RapbenchError
from rapbench.core.named import Named, parameters
from rapbench.methods import METHODS
from rapbench.methods.maps import Maps
from rapbench.results.store import Block, Store
from rapbench.run.explainer import Explainer
from rapbench.run.reading import read
from rapbench.run.resolve import prepare, settings
from rapbench.run.spec import RunSpec

Run = Callable[..., tuple[list[dict[str, Any]], int]]
IDS = ("a", "class/b c", "%d")
RNG = np.random.default_rng(0)
ARRAYS = RNG.standard_normal((3, 3, 8, 8)).astype(np.float32)
X = torch.zeros(3, 3, 8, 8)


def maps(path: Path, **parameters: str) -> Maps:
    typed = "".join(f", {key}={value}" for key, value in parameters.items())
    built: Maps = METHODS.build(parse_call(f"maps(path='{path}'{typed})"))
    return built


def one_file_each(folder: Path, suffix: str, save: Callable[[Path, np.ndarray], object]) -> Path:
    folder.mkdir()
    for name, array in zip(IDS, ARRAYS, strict=True):
        save(folder / f"{quote(name, safe='')}{suffix}", array)
    return folder


def in_sub_folders(folder: Path) -> Path:
    for name, array in zip(IDS, ARRAYS, strict=True):
        file = folder / f"{name.replace('%', '%25')}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, array)
    return folder


def hdf5(file: Path, arrays: dict[str, np.ndarray]) -> Path:
    with h5py.File(file, "w") as held:
        for name, array in arrays.items():
            held[name] = array
    return file


def saved(file: Path, save: Callable[..., object], *args: Any, **arrays: Any) -> Path:
    save(file, *args, **arrays)
    return file


FORMS: dict[str, Callable[[Path], Path]] = {
    "npz each": lambda at: one_file_each(at / "maps", ".npz", lambda f, a: np.savez(f, relevance=a, target=1)),
    "npy each": lambda at: one_file_each(at / "maps", ".npy", np.save),
    "pt each": lambda at: one_file_each(at / "maps", ".pt", lambda f, a: torch.save(torch.from_numpy(a), f)),
    "npy each in sub-folders": lambda at: in_sub_folders(at / "maps"),
    "npy of all": lambda at: saved(at / "all.npy", np.save, ARRAYS),
    "npz of all": lambda at: saved(at / "all.npz", np.savez, ARRAYS, np.arange(3)),
    "npz by id": lambda at: saved(at / "all.npz", np.savez, **dict(zip(IDS, ARRAYS, strict=True))),
    "pt of all": lambda at: saved(
        at / "all.pt", lambda f, a: torch.save({"relevance": torch.from_numpy(a)}, f), ARRAYS
    ),
    "hdf5 of all": lambda at: hdf5(at / "all.h5", {"attribution": ARRAYS}),
    "hdf5 by id": lambda at: hdf5(at / "all.hdf5", dict(zip(IDS, ARRAYS, strict=True))),
}


@pytest.mark.parametrize("form", FORMS)
def test_maps_are_found_by_id_or_by_their_place_in_the_data_set(form: str, tmp_path: Path) -> None:
    found = maps(FORMS[form](tmp_path)).of((IDS[2], IDS[1]), IDS, X[:2])
    assert torch.equal(found, torch.from_numpy(ARRAYS[[2, 1]]).double())


def constant(*shape: int) -> np.ndarray:
    return np.full(shape, 6.0, np.float16)


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8), (1, 8, 8), (4, 4), (1, 2, 2), (3, 1, 1)])
def test_a_map_of_pixels_is_shared_by_the_channels_and_a_smaller_one_is_enlarged(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    (file,) = tmp_path.iterdir() if np.save(tmp_path / "a.npy", constant(*shape)) else (tmp_path / "a.npy",)
    found = maps(file.parent).of(("a",), IDS, X[:1])
    assert torch.equal(found, torch.full((1, 3, 8, 8), 6.0 if shape[0] == 3 else 2.0, dtype=torch.float64))


def test_the_rule_of_enlarging_is_chosen(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0.0, 3.0], [0.0, 3.0]]))
    nearest, bilinear = (
        maps(tmp_path, resize=rule).of(("a",), IDS, X[:1]).sum(1)[0, 0].tolist() for rule in ("nearest", "bilinear")
    )
    assert nearest == pytest.approx([0, 0, 0, 0, 3, 3, 3, 3])
    assert bilinear == pytest.approx([0, 0, 0.375, 1.125, 1.875, 2.625, 3, 3])


def spoiled(value: float) -> np.ndarray:
    array = np.ones((8, 8))
    array[0, :2] = value
    return array


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ones((8, 8, 3)), r"'a': of shape \(8, 8, 3\), where \(3, 8, 8\), \(1, 8, 8\) or \(8, 8\) is wanted"),
        (np.ones((8, 4)), r"of shape \(8, 4\)"),
        (np.ones((16, 16)), r"of shape \(16, 16\)"),
        (np.ones((1, 3, 8, 8)), r"of shape \(1, 3, 8, 8\)"),
        (np.ones(64), r"of shape \(64,\)"),
        (np.array(1.0), r"of shape \(\)"),
        (spoiled(np.nan), "'a': 2 of 64 values are not finite"),
        (spoiled(-np.inf), "2 of 64 values are not finite"),
        (np.full((8, 8), "x"), "'a': <U1, where numbers are wanted"),
    ],
)
def test_a_map_that_cannot_be_the_image_s_is_refused(array: np.ndarray, said: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(BadConfig, match=said):
        maps(tmp_path).of(("a",), IDS, X[:1])


def test_maps_of_other_images_or_of_another_number_are_refused_before_any_is_read(tmp_path: Path) -> None:
    one_file_each(tmp_path / "maps", ".npy", np.save)
    with pytest.raises(BadConfig, match=r"maps holds no map of image 'z': it holds 3, of '%d', 'a', \.\.\."):
        maps(tmp_path / "maps").check(("a", "z"), ("a", "z"))
    np.save(tmp_path / "all.npy", ARRAYS)
    with pytest.raises(BadConfig, match=r"all\.npy holds 3 maps, and the data set 4 images: one array has"):
        maps(tmp_path / "all.npy").check(("a",), (*IDS, "z"))


def _two_of_one(at: Path) -> Path:
    one_file_each(at / "maps", ".npy", np.save)
    np.savez(at / "maps" / "a.npz", ARRAYS[0])
    return at / "maps"


def _empty(at: Path) -> Path:
    (at / "maps").mkdir()
    return at / "maps"


def _text(at: Path, name: str) -> Path:
    (at / name).write_text("no array")
    return at / name


def _code(at: Path) -> Path:
    torch.save(Path("anything but tensors"), at / "all.pt")
    return at / "all.pt"


@pytest.mark.parametrize(
    ("lay", "error", "said"),
    [
        (lambda at: at / "none", DataMissing, "^no maps .*none: neither a file nor a folder$"),
        (_empty, DataMissing, r"^no maps \(\.npz, \.npy, .*\) in .*maps$"),
        (_two_of_one, BadData, r"^image listed twice: .*maps \(4 files are maps of 3 images\)$"),
        (lambda at: _text(at, "all.csv"), BadData, r"unreadable maps: .*csv \(none of \.npz"),
        (lambda at: _text(at, "all.npz"), BadData, r"unreadable maps: .*all\.npz"),
        (lambda at: _text(at, "all.h5"), BadData, r"unreadable maps: .*all\.h5"),
        (_code, BadData, r"unreadable maps: .*all\.pt \(Weights only load failed"),
    ],
)
def test_files_without_maps_are_said_when_they_are_named(
    lay: Callable[[Path], Path], error: type[RapbenchError], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        maps(lay(tmp_path))


def test_a_file_of_several_arrays_has_to_say_which_is_the_map(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=ARRAYS[0], other=ARRAYS[1])
    with pytest.raises(BadData, match=r"a\.npz \(holds one, other; name the map relevance\)"):
        maps(tmp_path).of(("a",), IDS, X[:1])


def test_the_key_holds_what_the_maps_are_and_not_where_they_lie(tmp_path: Path) -> None:
    def digest(path: Path) -> str | None:
        return Named("maps", maps(path)).digest

    first = one_file_each(tmp_path / "maps", ".npy", np.save)
    before = digest(first)
    assert parameters(maps(first)) == {"signed": True, "resize": "bilinear"}
    moved = first.rename(tmp_path / "moved")
    assert digest(moved) == before
    (moved / "a.npy").rename(moved / "z.npy")
    renamed = digest(moved)
    np.save(tmp_path / "z.npy", ARRAYS[1])
    (tmp_path / "z.npy").replace(moved / "z.npy")
    assert len({before, renamed, digest(moved)}) == 3


def test_maps_that_a_run_saved_score_as_the_method_that_made_them(run: Run, tmp_path: Path) -> None:
    given = {"limit": 5, "dataset": "doubles:Squares"}
    run(method="doubles:Counting", save_maps=tmp_path / "maps", **given)
    (folder,) = (tmp_path / "maps").iterdir()
    assert run(method=f"maps(path='{folder}')", out=tmp_path / "other", **given)[1] == 5
    expected, found = (
        {held.cell.metric: held.read().frame for held in Store(tmp_path / at).held()} for at in ("runs", "other")
    )
    assert set(found) == set(expected) == {"guards", "segmentation", "outside_inside"}
    for metric, frame in expected.items():
        assert_frame_equal(found[metric], frame, rtol=1e-6)


def test_a_run_refuses_maps_of_other_images_before_it_starts(tmp_path: Path) -> None:
    one_file_each(tmp_path / "maps", ".npy", np.save)
    given = {"model": "doubles:tiny", "weights": "random", "dataset": "doubles:Squares", "device": "cpu"}
    with pytest.raises(BadConfig, match="holds no map of image 'square-0'"):
        prepare(RunSpec.read(None, {**given, "method": f"maps(path='{tmp_path}/maps')"}))


def test_the_sign_is_a_parameter(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", RNG.standard_normal((40, 7, 7)))
    given = {"metric": "segmentation", "limit": 2, "dataset": "doubles:Squares"}
    signed, _ = run(method=f"maps(path='{tmp_path}/all.npy')", **given)
    positive, _ = run(method=f"maps(path='{tmp_path}/all.npy', signed=false)", **given)
    values = [{one["variant"]: one["value"] for one in found} for found in (signed, positive)]
    assert values[0] != values[1]


def test_other_inputs_or_classes_cannot_be_explained(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", RNG.standard_normal((40, 7, 7)))
    given = {"model": "doubles:tiny", "weights": "random", "dataset": "doubles:Squares", "device": "cpu", "limit": 2}
    experiment = prepare(RunSpec.read(None, {**given, "method": f"maps(path='{tmp_path}/all.npy')"}))
    explainer = Explainer(experiment)
    clean = explainer.classified(next(read(experiment, [Block(0, 2)])))
    assert clean is not None
    explained = explainer.explained(experiment.methods[0], clean)
    assert explained.relevance.shape == clean.batch.x.shape
    with pytest.raises(
        BadConfig, match=r"all\.npy holds maps of the data set's images as they are, for one class each"
    ):
        explained.network.explain(clean.batch.x + 1, clean.target, clean.batch.seeds)


def test_a_metric_that_explains_others_is_refused_by_name_and_left_out_where_none_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", ARRAYS)
    given = {"model": "mnist_cnn", "dataset": "digits", "method": f"maps(path='{tmp_path}/all.npy'),random"}
    usual = [metric.name for metric in settings(RunSpec.read(None, given)).metrics]
    assert "perturbation" in usual
    assert "digit_conversion" not in usual
    with pytest.raises(
        BadConfig, match=r"^metric digit_conversion explains other .*, which method maps\(path=.*cannot$"
    ):
        settings(RunSpec.read(None, {**given, "metric": "digit_conversion"}))
    assert len(settings(RunSpec.read(None, {**given, "metric": "digit_conversion", "method": "random"})).metrics) == 2


def test_a_network_that_cannot_be_traced_is_scored(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", RNG.standard_normal((40, 7, 7)))
    assert run(method=f"maps(path='{tmp_path}/all.npy')", model="doubles:Opaque", limit=2)[1] == 2

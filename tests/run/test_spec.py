"""Specs and keys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rapbench.core.errors import BadConfig, DataMissing, UnknownName
from rapbench.run.plan import Experiment
from rapbench.run.resolve import prepare
from rapbench.run.spec import RunSpec, read_parts

BASE = {"model": "doubles:tiny", "weights": "random", "dataset": "doubles:Squares", "metric": ["perturbation"]}


def experiment(**options: object) -> Experiment:
    return prepare(RunSpec.read(None, {**BASE, "device": "cpu", **options}))


def key(**options: object) -> str:
    cells = experiment(**options).cells
    return next(cell.key for (_, metric), cell in cells.items() if metric != "guards")


@pytest.mark.parametrize(
    "options",
    [
        {"method": ["lrp_a1b0"]},
        {"method": ["rap(routing=paper)"]},
        {"metric": ["perturbation(space=raw)"]},
        {"metric": ["segmentation"]},
        {"seed": 1},
        {"precision": "bf16"},
        {"dataset": "doubles:Squares(count=39)"},
        {"dataset": "doubles:Unlabelled"},
        {"model": "squeezenet1_1"},
    ],
    ids=str,
)
def test_the_key_changes_when_numbers_may(options: dict[str, object]) -> None:
    assert key(**options) != key()


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 7},
        {"batch_size": 1},
        {"metric": ["perturbation(images=3)"]},
        {"metric": ["perturbation(pixels=100)"]},
        {"method": ["rap(routing=official)"]},
        {"out": Path("elsewhere")},
        {"data_root": Path("elsewhere")},
        {"strict": True},
        {"save_maps": Path("maps")},
    ],
    ids=str,
)
def test_the_key_stays_when_numbers_stay(options: dict[str, object]) -> None:
    assert key(**options) == key()


def test_labels_name_only_what_is_not_a_default() -> None:
    found = experiment(method=["rap(routing=official)", "lrp_a2b1(bias=signed)"], metric=["perturbation(images=4)"])
    assert [method.label for method in found.methods] == ["rap", "lrp_a2b1(bias=signed)"]
    assert [metric.label for metric in found.metrics] == ["guards", "perturbation"]


def test_the_command_line_goes_before_the_config_file(tmp_path: Path) -> None:
    config = tmp_path / "a.toml"
    config.write_text('method = ["rap", "random"]\nmodel = "resnet50"\nlimit = 5\nstrict = true\nseed = 3\n')
    spec = RunSpec.read(config, {"model": "vgg16", "limit": None, "method": [], "strict": False, "seed": 0})
    assert (spec.method, spec.model, spec.limit, spec.strict) == (("rap", "random"), "vgg16", 5, True)
    assert spec.seed == 0, "zero is a value like any other"


def test_methods_are_joined_by_commas_or_listed_and_each_kept_once() -> None:
    assert RunSpec.read(None, {"method": ["rap,random", "rap"]}).method == ("rap", "random")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('metod = "rap"', "no setting 'metod': did you mean method"),
        ("limit = 0", "limit: .*greater than or equal to 1"),
        ('precision = "fp16"', "precision: "),
        ("method = [", "a.toml"),
        ("batch_size = -1", "batch_size: "),
    ],
)
def test_a_wrong_config_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "a.toml"
    config.write_text(text)
    with pytest.raises(BadConfig, match=message):
        RunSpec.read(config, {})


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"no config file .*b\.toml"):
        RunSpec.read(tmp_path / "b.toml", {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": ["segmentation"], "dataset": "doubles:Unlabelled"}, "segmentation needs mask, which"),
        ({"precision": "tf32"}, "tf32 is a mode of CUDA devices"),
    ],
)
def test_contradictions_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        experiment(**options)


def test_by_default_every_metric_that_the_images_support_is_computed() -> None:
    assert [m.name for m in experiment(metric=[]).metrics] == [
        "outside_inside",
        "segmentation",
        "perturbation",
        "guards",
    ]
    assert [m.name for m in experiment(metric=[], dataset="doubles:Unlabelled").metrics] == ["perturbation", "guards"]


PARTS = """
limit = 5
method = ["rap", "random"]
[[part]]
name = "one"
model = "vgg16"
[[part]]
name = "two"
model = "resnet50"
limit = 7
"""


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    file = tmp_path / "parts.toml"
    file.write_text(PARTS)
    return file


def test_parts_share_what_stands_above_them_and_override_it(parts: Path) -> None:
    specs = read_parts(parts, {})
    assert {name: (s.model, s.limit, s.method) for name, s in specs.items()} == {
        "one": ("vgg16", 5, ("rap", "random")),
        "two": ("resnet50", 7, ("rap", "random")),
    }


def test_options_override_every_part_and_equal_parts_are_one(parts: Path) -> None:
    assert [s.limit for s in read_parts(parts, {"limit": 3}).values()] == [3, 3]
    assert list(read_parts(parts, {"limit": 3, "model": "vgg11"})) == ["one"]


def test_parts_are_chosen_by_name(parts: Path) -> None:
    assert list(read_parts(parts, {}, ["two"])) == ["two"]
    with pytest.raises(UnknownName, match="did you mean one"):
        read_parts(parts, {}, ["onee"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[part]]\nmodel = "vgg16"\n[[part]]\nmodel = "vgg11"', "needs a name of its own"),
        ('[[part]]\nname = "a"\nmodle = "vgg16"', "did you mean model"),
        ('[[part]]\nname = "a"\nlimit = 0', "limit: "),
    ],
)
def test_a_wrong_part_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(BadConfig, match=message):
        read_parts(tmp_path / "c.toml", {})


def test_a_command_for_one_part_refuses_several(parts: Path) -> None:
    with pytest.raises(BadConfig, match="has 2 parts"):
        RunSpec.read(parts, {})


@pytest.mark.parametrize("setting", ["out", "data_root", "weights", "save_maps"])
def test_a_tilde_in_a_config_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    (tmp_path / "a.toml").write_text(f'{setting} = "~/x"')
    assert str(getattr(RunSpec.read(tmp_path / "a.toml", {}), setting)) == "/somewhere/x"


@pytest.mark.parametrize("setting", ["method", "metric"])
@pytest.mark.parametrize("value", ["", " ", ",", ["rap", ""]])
def test_a_list_without_a_name_is_refused(setting: str, value: object) -> None:
    with pytest.raises(BadConfig, match=f"^{setting}: a name is needed$"):
        RunSpec.read(None, {setting: value})


@pytest.mark.parametrize(
    "setting", ["model", "weights", "dataset", "backend", "study", "target", "out", "data_root", "save_maps"]
)
def test_an_empty_value_is_refused_by_name(setting: str) -> None:
    with pytest.raises(BadConfig, match=f"^{setting}: "):
        RunSpec.read(None, {setting: ""})


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbflimit = 5\n")
    assert RunSpec.read(tmp_path / "a.toml", {}).limit == 5


@pytest.mark.parametrize("text", ["part = 5", "[part]\nlimit = 3", f"method = {'[' * 9000}"])
def test_a_config_of_another_form_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(BadConfig, match=r"^[^\n]*a\.toml: [^\n]+$"):
        RunSpec.read(tmp_path / "a.toml", {})


@pytest.mark.parametrize(
    "options",
    [
        {"method": "RAP"},
        {"model": "VGG16"},
        {"metric": "Guards"},
        {"dataset": "VOC"},
        {"study": "signal"},
        {"backend": "nativ"},
    ],
    ids=str,
)
def test_a_wrong_name_is_answered_before_torch_is_imported(options: dict[str, str]) -> None:
    code = (
        f"import sys\nfrom rapbench.core.errors import UnknownName\nfrom rapbench.run.spec import RunSpec\n"
        f"try:\n    RunSpec.read(None, {options})\n"
        "except UnknownName as error:\n    assert 'did you mean' in str(error)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

import argparse
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rapbench.core.errors import BadWeights, DataMissing
from rapbench.models import load_classifier
from rapbench.models.checkpoint import fitted, last_weight, read_state, refuse_not_finite, state_digest


def _net(num_classes: int = 1000) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, num_classes))


def _saved(state: dict[str, Tensor], file: Path) -> Path:
    if file.suffix == ".npz":
        np.savez(file, **{key: tensor.numpy() for key, tensor in state.items()})
    elif file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return file


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pth.tar", ".ckpt", ".bin", ".safetensors", ".npz"])
def test_every_format_gives_the_same_tensors(tmp_path: Path, suffix: str) -> None:
    state = _net(5).state_dict()
    read = read_state(_saved(state, tmp_path / f"net{suffix}"))
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) and read[key].dtype == state[key].dtype for key in state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
def test_other_precisions_become_float32_and_counters_stay_integers(
    tmp_path: Path, suffix: str, dtype: torch.dtype
) -> None:
    state = {"weight": torch.randn(3, 4, dtype=dtype), "count": torch.tensor(7)}
    read = read_state(_saved(state, tmp_path / f"net{suffix}"))
    assert read["weight"].dtype == torch.float32
    assert torch.equal(read["weight"], state["weight"].float())
    assert read["count"].dtype == torch.int64


@pytest.mark.parametrize("holder", ["state_dict", "model_state_dict", "model", "net"])
@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", ""])
def test_a_training_checkpoint_is_unwrapped(tmp_path: Path, holder: str, wrapper: str) -> None:
    state = _net(5).state_dict()
    content = {
        "epoch": 3,
        holder: {f"{wrapper}{key}": tensor for key, tensor in state.items()},
        "optimizer": {"lr": 0.1},
        "args": argparse.Namespace(lr=0.1, model="net"),
    }
    torch.save(content, tmp_path / "net.pt")
    assert read_state(tmp_path / "net.pt").keys() == state.keys()


@pytest.mark.parametrize("outer", ["model.", "net.", "model._orig_mod.", "lit.backbone."])
def test_the_name_of_a_network_in_its_training_module_is_passed_over(tmp_path: Path, outer: str) -> None:
    state = _net(5).state_dict()
    torch.save({"state_dict": {outer + key: tensor for key, tensor in state.items()}}, tmp_path / "net.ckpt")
    found = fitted(_net, read_state(tmp_path / "net.ckpt"), "file")
    assert state_digest(found) == state_digest(fitted(_net, state, "file"))


def test_a_network_that_has_such_a_name_itself_keeps_it() -> None:
    def named(num_classes: int) -> nn.Module:
        return nn.ModuleDict({"model": _net(num_classes)})

    state = named(5).state_dict()
    assert fitted(named, state, "file").state_dict().keys() == state.keys()


def test_averaged_weights_are_weights(tmp_path: Path) -> None:
    torch.save({"model": torch.optim.swa_utils.AveragedModel(_net(5)).state_dict()}, tmp_path / "net.pth")
    assert read_state(tmp_path / "net.pth").keys() == _net(5).state_dict().keys()


def test_a_whole_pickled_network_is_refused_with_the_cure(tmp_path: Path) -> None:
    torch.save(_net(5), tmp_path / "net.pt")
    with pytest.raises(BadWeights, match=r"holds a torch\.nn\.\S+, whose code would be run; save model\.state_dict"):
        read_state(tmp_path / "net.pt")


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    net = _net(5)
    state = net.state_dict()
    state["1.running_var"][2] = torch.inf
    state["0.bias"][1] = torch.nan
    with pytest.raises(BadWeights, match=r"^net\.pt: NaN or infinity in 0\.bias, 1\.running_var$"):
        refuse_not_finite(net, "net.pt")


def test_a_network_with_weights_that_are_not_finite_is_not_loaded(tmp_path: Path) -> None:
    state = load_classifier("squeezenet1_1", "random", label_space="", seed=0).module.state_dict()
    state["classifier.1.bias"][3] = torch.nan
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(BadWeights, match=r"NaN or infinity in classifier\.1\.bias"):
        load_classifier("squeezenet1_1", str(tmp_path / "net.pt"), label_space="", seed=0)


def _claiming(file: Path, count: int) -> Path:
    """An archive of a few bytes whose one array claims to hold more numbers than any memory."""
    if file.suffix == ".npz":
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (count,)})
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("weight.npy", header.getvalue() + bytes(100))
    elif file.suffix == ".safetensors":
        entry = {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}
        text = json.dumps({"weight": entry}).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(100))
    else:
        torch.save({"weight": torch.zeros(1).expand(count)}, file)
    return file


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_a_file_that_claims_more_than_any_memory_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(BadWeights, match=r"cannot read weights from .*net\.\w+: [^\n]+$"):
        read_state(_claiming(tmp_path / f"net{suffix}", 10**12))


def test_an_archive_that_would_grow_beyond_any_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "net.npz", weight=np.zeros(10**6, np.float32))
    monkeypatch.setattr("rapbench.models.checkpoint._MOST_BYTES", 10**6)
    with pytest.raises(BadWeights, match="they claim"):
        read_state(tmp_path / "net.npz")


def test_densenet_files_of_2017_get_todays_names(tmp_path: Path) -> None:
    old = ["features.denseblock1.denselayer1.norm.1.weight", "features.denseblock1.denselayer12.conv.2.weight"]
    _saved({key: torch.zeros(1) for key in [*old, "features.norm5.weight"]}, tmp_path / "net.pth")
    assert list(read_state(tmp_path / "net.pth")) == [
        "features.denseblock1.denselayer1.norm1.weight",
        "features.denseblock1.denselayer12.conv2.weight",
        "features.norm5.weight",
    ]


def test_a_missing_file_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"no weight file .*net\.pt"):
        read_state(tmp_path / "net.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
@pytest.mark.parametrize("content", ["empty", "text", "half"])
def test_an_unreadable_file_is_one_line_about_the_file(tmp_path: Path, suffix: str, content: str) -> None:
    file = _saved(_net(5).state_dict(), tmp_path / f"net{suffix}")
    half = file.read_bytes()[: file.stat().st_size // 2]
    file.write_bytes({"empty": b"", "text": b"<html>\nnot found", "half": half}[content])
    with pytest.raises(BadWeights, match=rf"^cannot read weights from .*net\{suffix}: [^\n]+$"):
        read_state(file)


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.h5").write_bytes(b"\x89HDF")
    with pytest.raises(BadWeights, match=r"net\.h5.*\.pt, \.pth, .*\.safetensors, \.npz"):
        read_state(tmp_path / "net.h5")


class _Command:
    """What runs code where it is unpickled without care."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.made,)


@pytest.mark.parametrize("suffix", [".pt", ".npz"])
def test_a_weight_file_runs_no_code(tmp_path: Path, suffix: str) -> None:
    file, made = tmp_path / f"net{suffix}", tmp_path / "made"
    if suffix == ".pt":
        torch.save({"weight": _Command(made)}, file)
    else:
        np.savez(file, weight=np.array([_Command(made)], dtype=object))
    with pytest.raises(BadWeights):
        read_state(file)
    assert not made.exists()
    file.write_bytes(pickle.dumps(_Command(made)))
    with pytest.raises(BadWeights):
        read_state(file)
    assert not made.exists()


@pytest.mark.parametrize(
    "content", [{}, [torch.zeros(1)], torch.zeros(1), {"epoch": 1}, {"state_dict": {}}, {0: torch.zeros(1)}]
)
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(BadWeights, match="holds no state dict"):
        read_state(tmp_path / "net.pt")


@pytest.mark.parametrize("num_classes", [1, 12, 1000])
def test_the_weights_decide_the_number_of_classes(num_classes: int) -> None:
    state = _net(num_classes).state_dict()
    module = fitted(_net, state, "file")
    assert last_weight(module) == "4.weight"
    assert module.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in module.state_dict().items())
    assert module(torch.randn(2, 3, 3, 3)).shape == (2, num_classes)


def test_counters_of_training_batches_may_be_missing() -> None:
    state = _net(5).state_dict()
    del state["1.num_batches_tracked"]
    assert fitted(_net, state, "file").state_dict()["1.num_batches_tracked"] == 0


def test_heads_for_training_are_passed_over() -> None:
    state = _net(5).state_dict()
    extra = {"aux1.fc.weight": torch.zeros(2), "AuxLogits.fc.bias": torch.zeros(2)}
    assert state_digest(fitted(_net, {**state, **extra}, "file")) == state_digest(fitted(_net, state, "file"))


def test_what_does_not_fit_is_named_key_by_key() -> None:
    state = _net(5).state_dict()
    state["renamed"] = state.pop("0.bias")
    state["1.weight"] = torch.zeros(7)
    state["1.bias"] = state["1.bias"].long()
    with pytest.raises(BadWeights) as error:
        fitted(_net, state, "net.pt as weights of resnet18")
    assert str(error.value) == (
        "net.pt as weights of resnet18 does not fit: 1 missing: 0.bias; 1 unexpected: renamed; "
        "2 of another shape or type: 1.bias (4, 'integer') for (4, 'float'), 1.weight (7, 'float') for (4, 'float')"
    )


def test_of_many_wrong_keys_five_are_named() -> None:
    with pytest.raises(
        BadWeights, match=r"8 missing: 0\.bias, 0\.weight, 1\.bias, 1\.running_mean, 1\.running_var, \.\.\.;"
    ):
        fitted(_net, {"other": torch.zeros(1)}, "file")


@pytest.mark.parametrize("head", [torch.tensor(1.0), torch.zeros(0, 4)])
def test_a_head_without_rows_does_not_fit(head: Tensor) -> None:
    with pytest.raises(BadWeights, match=r"4\.weight"):
        fitted(_net, {**_net(5).state_dict(), "4.weight": head}, "file")


def test_the_digest_sees_every_value_shape_type_and_name() -> None:
    def digest(**tensors: Tensor) -> str:
        holder = nn.Module()
        for name, tensor in tensors.items():
            holder.register_buffer(name, tensor)
        return state_digest(holder)

    ones = torch.ones(2, 3)
    changed = ones.clone()
    changed[1, 2] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    digests = [
        digest(a=ones), digest(a=changed), digest(a=ones.view(3, 2)), digest(a=ones.view(torch.int32)),
        digest(b=ones), digest(a=ones, b=ones),
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)
    assert digest(a=torch.ones(3, 2).T) == digests[0]
    assert all(len(each) == 64 for each in digests)


class Positions(nn.Module):
    """A network with numbers that its state dict does not hold, as Swin v2 has."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(2, num_classes)
        self.register_buffer("table", torch.arange(2.0), persistent=False)
        self.shift = torch.full((1,), 3.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x * self.table + self.shift)


def test_numbers_that_no_state_dict_holds_are_those_the_network_was_built_with() -> None:
    net = Positions(7)
    x = torch.ones(1, 2)
    assert torch.equal(fitted(Positions, net.state_dict(), "file")(x), net(x))

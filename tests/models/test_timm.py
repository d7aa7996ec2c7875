"""timm's networks, named as timm names them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from rapbench.core.errors import BadConfig, DataMissing, UnknownName
from rapbench.core.types import Classifier
from rapbench.models import family, load_classifier

timm = pytest.importorskip("timm")

SMALL = "timm:test_resnet"
"""A network of a few thousand weights."""


def load(name: str, weights: object, seed: int = 0) -> Classifier:
    return load_classifier(name, str(weights), label_space="imagenet", seed=seed)


def test_a_network_sees_the_input_that_it_was_trained_on() -> None:
    found = load(SMALL, "random")
    about = timm.data.resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg("test_resnet").to_dict())
    assert (found.mean, found.std, (3, found.size, found.size)) == (about["mean"], about["std"], about["input_size"])
    assert (found.title, found.source) == (f"{SMALL} (random)", f"timm {timm.__version__}")
    assert found.module(found.example()).shape == (2, 1000)


def test_random_weights_are_the_seeds() -> None:
    digests = [load(SMALL, "random", seed).digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(("num_classes", "label_space"), [(1000, "imagenet"), (7, "")])
def test_a_weight_file_fills_it(tmp_path: Path, num_classes: int, label_space: str) -> None:
    net = timm.create_model("test_resnet", num_classes=num_classes).eval()
    torch.save(net.state_dict(), tmp_path / "mine.pt")
    found = load(SMALL, tmp_path / "mine.pt")
    x = found.example()
    assert torch.equal(found.module(x), net(x))
    assert (found.label_space, found.weights) == (label_space, "mine.pt")
    assert found.classes[281:282] == (("tabby",) if label_space else ())


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache on a machine without network."""

    def unreachable(url: str, *_: object, **__: object) -> None:
        raise OSError(f"no way to {url}")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    return tmp_path / "hub" / "checkpoints"


def test_without_network_a_line_says_where_to_put_which_file(offline: Path) -> None:
    url = r"https://huggingface\.co/timm/resnet18\.a1_in1k/resolve/main/model\.safetensors"
    put = f"{offline}/timm-resnet18.a1_in1k.safetensors"
    assert family("timm:resnet18").absent("pretrained").endswith(f"offline, put it at {put}")
    with pytest.raises(DataMissing, match=rf"cannot download pretrained weights of timm:resnet18.*{url}") as raised:
        load("timm:resnet18", "auto")
    assert f"put timm-resnet18.a1_in1k.safetensors into {offline}" in str(raised.value)


def test_weights_that_were_put_there_are_taken(offline: Path) -> None:
    from safetensors.torch import save_file

    offline.mkdir(parents=True)
    net = timm.create_model("test_resnet").eval()
    save_file(net.state_dict(), offline / "timm-test_resnet.r160_in1k.safetensors")
    found = load(SMALL, "auto")
    assert (found.weights, found.label_space) == ("pretrained", "imagenet")
    assert torch.equal(found.module(found.example()), net(found.example()))
    assert family(SMALL).absent("pretrained") == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet19", "timm has no network named 'resnet19': did you mean resnet18 or "),
        ("timm:resnet18.a1_in2k", r"did you mean resnet18\.a1_in1k"),
        ("timm:zzzzzzzz", r"timm\.list_models\(\) lists them"),
    ],
)
def test_an_unknown_name_gets_near_ones(name: str, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        family(name)


def test_what_is_no_weights_is_one_line() -> None:
    with pytest.raises(UnknownName, match=r"no weights named 'pretraind' of .*did you mean pretrained"):
        load(SMALL, "pretraind")
    with pytest.raises(BadConfig, match="has no classes: it computes features"):
        family("timm:vit_small_patch14_dinov2")
    with pytest.raises(BadConfig, match="takes no parameters"):
        family(f"{SMALL}(width=2)")


def test_without_timm_a_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "rapbench.models.timm", raising=False)
    with pytest.raises(BadConfig, match=r'networks of timm need timm: pip install "rapbench\[timm\]"'):
        family("timm:resnet18")

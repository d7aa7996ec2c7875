import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision import models

from rapbench.core.errors import BadConfig, BadWeights, DataMissing, UnknownName
from rapbench.core.types import Classifier
from rapbench.models import MODELS, family, load_classifier, narrow
from rapbench.models.checkpoint import Undrawn, last_weight
from rapbench.models.narrow import NARROW
from rapbench.models.zoo import Architecture


def _load(name: str, weights: object, label_space: str = "imagenet", seed: int = 0) -> Classifier:
    return load_classifier(name, str(weights), label_space=label_space, seed=seed)


def _saved(module: nn.Module, file: Path) -> Path:
    torch.save(module.state_dict(), file)
    return file


def architecture(name: str) -> Architecture:
    """The architecture of a family, where it is not one itself."""
    found = family(name)
    network = getattr(found, "network", found)
    assert isinstance(network, Architecture)
    assert network.name == name
    return network


def test_listing_models_and_datasets_imports_no_torch() -> None:
    code = "import sys, rapbench.models, rapbench.datasets; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MODELS))
def test_every_name_is_an_architecture_with_weights_and_a_head(name: str) -> None:
    with Undrawn():
        module = architecture(name).build(7)
    assert module.get_parameter(last_weight(module)).shape[0] == 7
    assert not any(key.startswith(("aux", "Aux")) for key in module.state_dict())
    assert name in {"vgg16_keras", "mnist_cnn"} or family(name).default_weights("imagenet") in published(name)


def published(name: str) -> dict[str, int]:
    """Side in pixels that each of torchvision's weights is published for."""
    return {entry.name: entry.transforms().crop_size[0] for entry in models.get_model_weights(name)}


def test_every_classifier_of_torchvision_has_its_name() -> None:
    assert set(models.list_models(module=models)) <= set(MODELS)


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_the_input_is_what_the_weights_are_published_for(name: str) -> None:
    network, sides = architecture(name), published(name)
    assert sides[network.default_weights("imagenet")] == network.size == min(sides.values())
    assert not network.absent("IMAGENET1K_SWAG_E2E_V1") or sides["IMAGENET1K_SWAG_E2E_V1"] == network.size


def test_a_network_trained_on_another_range_of_pixels_is_given_it() -> None:
    assert (architecture("efficientnet_v2_l").mean, architecture("efficientnet_v2_s").mean[0]) == ((0.5,) * 3, 0.485)


def test_an_unknown_model_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match=r"no model named 'vg16': did you mean vgg16\?"):
        _load("vg16", "random")


def test_random_weights_are_the_seeds_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = _load("squeezenet1_1", "random", seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert _load("squeezenet1_1", "random", seed=1).digest == first.digest
    assert _load("squeezenet1_1", "random", seed=2).digest != first.digest
    assert (first.weights, first.title, first.label_space) == ("random", "squeezenet1_1 (random)", "")
    assert first.module(torch.randn(1, 3, 64, 64)).shape == (1, 1000)


def test_the_module_is_ready_to_be_explained() -> None:
    module = _load("resnet18", "random").module
    assert not any(part.training for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize(("num_classes", "label_space"), [(1000, "imagenet"), (7, "")])
def test_a_file_of_a_thousand_classes_counts_as_imagenets(tmp_path: Path, num_classes: int, label_space: str) -> None:
    net = models.squeezenet1_1(num_classes=num_classes).eval()
    loaded = _load("squeezenet1_1", _saved(net, tmp_path / "mine.pth"))
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(loaded.module(x), net(x))
    assert loaded.label_space == label_space
    assert loaded.classes[281:282] == (("tabby",) if label_space else ())
    assert (loaded.weights, loaded.title, loaded.size) == ("mine.pth", "squeezenet1_1 (mine.pth)", 224)
    assert loaded.mean == (0.485, 0.456, 0.406)


def test_the_digest_is_the_weights_and_not_the_file(tmp_path: Path) -> None:
    net = models.squeezenet1_1(num_classes=7)
    first = _load("squeezenet1_1", _saved(net, tmp_path / "a.pt"))
    assert _load("squeezenet1_1", _saved(net, tmp_path / "b.pt")).digest == first.digest
    with torch.no_grad():
        net.features[0].bias[0] += 1
    assert _load("squeezenet1_1", _saved(net, tmp_path / "c.pt")).digest != first.digest


def test_weights_of_another_model_do_not_fit(tmp_path: Path) -> None:
    file = _saved(models.squeezenet1_1(), tmp_path / "mine.pth")
    with pytest.raises(
        BadWeights, match=r"mine\.pth as weights of resnet18 does not fit: 102 missing: .*52 unexpected: "
    ):
        _load("resnet18", file)


def test_a_missing_weight_file_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"no weight file .*mine\.pth"):
        _load("resnet18", tmp_path / "mine.pth")


def _inception(name: str) -> nn.Module:
    """A net with heads for training whose batch norms have seen inputs, so that signals reach its logits."""
    net = models.get_model(name, transform_input=True, num_classes=5, init_weights=False, aux_logits=True).eval()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.train().momentum = 1.0
    net(torch.randn(4, 3, 128, 128))
    return net.eval()


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_inceptions_see_what_torchvisions_see(tmp_path: Path, name: str) -> None:
    net = _inception(name)
    loaded = _load(name, _saved(net, tmp_path / "mine.pt"))
    images, ours, net = torch.rand(2, 3, 128, 128).double(), loaded.module.double(), net.double()
    usual = Classifier(name="", title="", weights="", digest="", module=net, label_space="").normalised(images)
    with torch.no_grad():
        logits, theirs, unconverted = ours(loaded.normalised(images)), net(usual), ours(usual)
    torch.testing.assert_close(logits, theirs, rtol=1e-6, atol=1e-6)
    assert (unconverted - theirs).abs().max() > 1e-2
    assert loaded.size == (299 if name == "inception_v3" else 224)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PyTorch cache on a machine without network."""

    def unreachable(url: str, *_: object, **__: object) -> None:
        raise OSError(f"no way to {url}")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("weights", ["auto", "IMAGENET1K_V1"])
def test_published_weights_are_taken_from_the_cache(cache: Path, weights: str) -> None:
    net = models.squeezenet1_1().eval()
    cache.mkdir(parents=True)
    _saved(net, cache / "squeezenet1_1-b8a52dc0.pth")
    loaded = _load("squeezenet1_1", weights, label_space="")
    assert (loaded.weights, loaded.title) == ("IMAGENET1K_V1", "squeezenet1_1 (IMAGENET1K_V1)")
    assert loaded.label_space == "imagenet"
    assert torch.equal(loaded.module(torch.ones(1, 3, 64, 64)), net(torch.ones(1, 3, 64, 64)))


def test_a_failed_download_tells_which_file_to_put_where(cache: Path) -> None:
    with pytest.raises(DataMissing, match=r"cannot download IMAGENET1K_V1 of vgg16 \(no way.*--weights") as error:
        _load("vgg16", "auto")
    assert f"put vgg16-397923af.pth into {cache}" in str(error.value)


def test_a_cache_that_cannot_be_written_tells_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    with pytest.raises(DataMissing, match=r"put vgg16-397923af\.pth into "):
        _load("vgg16", "auto")


def test_a_download_is_checked_against_the_hash_in_its_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def downloading(url: str, file: str, *, hash_prefix: str, progress: bool) -> None:
        asked[url] = hash_prefix
        _saved(models.mnasnet0_5(), Path(file))

    monkeypatch.setattr(torch.hub, "download_url_to_file", downloading)
    assert _load("mnasnet0_5", "auto").label_space == "imagenet"
    assert list(asked.values()) == ["3ffadce67e"]
    assert list(cache.iterdir()) == [cache / "mnasnet0.5_top1_67.823-3ffadce67e.pth"]


def test_a_download_that_stalls_ends_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("rapbench.models.downloads._SECONDS_WITHOUT_A_BYTE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/vgg16-397923af.pth"
        published = {"IMAGENET1K_V1": SimpleNamespace(url=url)}
        monkeypatch.setattr("rapbench.models.zoo.Architecture._published", lambda _: published)
        with pytest.raises(DataMissing, match=r"cannot download IMAGENET1K_V1 of vgg16 \(.*timed out.*\): put vgg16"):
            _load("vgg16", "IMAGENET1K_V1")
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("weights", ["IMAGENET1K_V3", "IMAGENET1K_FEATURES"])
def test_weights_that_are_no_classifiers_get_the_nearest_name(cache: Path, weights: str) -> None:
    with pytest.raises(UnknownName, match=rf"no weights named '{weights}' of vgg16.*did you mean IMAGENET1K_V1\?"):
        _load("vgg16", weights)


def test_scenes_are_classified_by_embedded_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "narrow_module", lambda name: NARROW[name].builder(12))
    for weights, label_space in [("auto", "scenes"), ("scenes", "imagenet")]:
        loaded = _load("vgg16", weights, label_space=label_space)
        assert (loaded.label_space, loaded.weights, loaded.title) == ("scenes", "scenes", NARROW["vgg16"].title)
        assert not loaded.module.training


@pytest.mark.parametrize("weights", ["auto", "scenes"])
def test_without_embedded_weights_the_models_that_have_them_are_named(weights: str) -> None:
    with pytest.raises(
        BadConfig, match="resnet18 has no embedded weights for scenes: vgg16, resnet50 and vit_b_16 have"
    ):
        _load("resnet18", weights, label_space="scenes")


def test_a_function_of_torchvisions_form_takes_what_torchvisions_do(tmp_path: Path) -> None:
    file = _saved(models.squeezenet1_1(num_classes=3), tmp_path / "mine.pt")
    assert _load("torchvision.models.squeezenet:squeezenet1_1", file).weights == "mine.pt"
    assert _load("doubles:tiny", "random").title == "doubles:tiny (random)"
    assert family("torchvision.models:efficientnet_b4").size == family("efficientnet_b4").size == 380
    with pytest.raises(BadConfig, match="doubles:tiny has no published weights: pass a file or random as --weights"):
        _load("doubles:tiny", "auto")
    with pytest.raises(BadConfig, match="vgg11 takes no parameters"):
        family("vgg11(width=2)")

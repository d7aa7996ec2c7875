"""Networks of a user's own: functions that build one, in a module or a file."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rapbench
from rapbench.core.errors import BadConfig, BadWeights, DataMissing, RapbenchError, UnknownName
from rapbench.core.types import Classifier
from rapbench.models import family, load_classifier
from rapbench.models.checkpoint import state_digest

TEXT = """
import numpy as np
import torch
from torch import nn
import rapbench

def build(width: int = 2, channels=3, classes=3, note: str = ""):
    net = nn.Sequential(nn.Conv2d(channels, width, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes))
    net(torch.zeros(1, channels, 32, 32))
    net.note = note
    return net

def thousand():
    return build(classes=1000)

def formed(*, weights=None, num_classes=5, width=2):
    return build(width, classes=num_classes)

def brought():
    return rapbench.Classifier(module=build(), mean=(0.1,) * 3, label_space="birds", classes=("a", "b", "c"))

def large():
    return rapbench.Classifier(module=build(), size=299)

def half():
    return build().half()

def number():
    return 3

def raising():
    return np.load("weights.npz")

def bare():
    return nn.Flatten()

def maps():
    return nn.Conv2d(3, 4, 3)

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = build()
    def forward(self, x):
        return self.inner(x), x

def lazy():
    return nn.LazyLinear(3)

class Quantised(nn.Linear):
    def __init__(self):
        super().__init__(3, 3)
    def get_extra_state(self):
        return "int8"

def leaving():
    raise SystemExit(3)

def needy(depth):
    return build()

NET = build()
SIZE = 32
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes the file with more text and gives the name of something in it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    def name(attribute: str, more: str = "") -> str:
        Path("mine.py").write_text(TEXT + more)
        return f"{tmp_path}/mine.py:{attribute}"

    return name


def load(name: str, weights: object = "auto", seed: int = 0) -> Classifier:
    return load_classifier(name, str(weights), label_space="imagenet", seed=seed)


def test_a_function_that_takes_no_weights_keeps_those_that_it_builds(mine: Callable[..., str]) -> None:
    found = load(mine("build"))
    assert (found.name, found.title, found.weights) == ("mine.py:build", "mine.py:build (own)", "own")
    assert (found.size, found.mean, found.label_space, found.classes) == (32, Classifier.mean, "", ())
    assert found.digest == state_digest(found.module)
    assert not any(parameter.requires_grad for parameter in found.module.parameters())


def test_what_a_network_draws_is_the_seeds_and_the_generators_stay_as_they_were(mine: Callable[..., str]) -> None:
    name = mine(
        "drawn", "import random\ndef drawn():\n    return build(2 + random.randrange(9) + np.random.randint(9))\n"
    )
    load(name)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    digests = [load(name, seed=seed).digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]  # noqa: NPY002


def test_a_weight_file_fills_it(mine: Callable[..., str]) -> None:
    name = mine("build")
    other = load(name, seed=1)
    torch.save(other.module.state_dict(), "net.pt")
    found = load(name, "net.pt")
    assert (found.digest, found.title) == (other.digest, "mine.py:build (net.pt)")
    torch.save(nn.Linear(1, 1).state_dict(), "net.pt")
    with pytest.raises(BadWeights, match=r"net\.pt as weights of mine\.py:build does not fit: 4 missing"):
        load(name, "net.pt")


@pytest.mark.parametrize(
    ("weights", "fault", "message"),
    [
        ("random", BadConfig, "brings its own weights: leave out --weights, pass a file, or let its function take"),
        ("IMAGENET1K_V1", UnknownName, "no weights named 'IMAGENET1K_V1' of .*: leave out --weights"),
        ("absent.pt", DataMissing, "no weight file absent"),
    ],
)
def test_other_weights_are_refused(
    mine: Callable[..., str], weights: str, fault: type[RapbenchError], message: str
) -> None:
    with pytest.raises(fault, match=message):
        load(mine("build"), weights)


def test_a_function_of_torchvisions_form_is_drawn_or_filled(mine: Callable[..., str]) -> None:
    name = mine("formed(width=3)")
    torch.save(load(mine("build(width=3, classes=7)")).module.state_dict(), "net.pt")
    assert load(name, "random").module[3].out_features == 1000
    assert load(name, "net.pt").module[3].out_features == 7
    with pytest.raises(BadConfig, match="pass a file or random as --weights"):
        load(name)


def test_parameters_in_brackets_reach_the_function(mine: Callable[..., str]) -> None:
    found = load(mine("build(width=5, note=12, classes=4)"))
    assert (found.module[0].out_channels, found.module[3].out_features, found.module.note) == (5, 4, "12")
    assert found.name == "mine.py:build(width=5, note=12, classes=4)"


def test_what_is_said_beside_a_function_holds_and_brackets_win(mine: Callable[..., str]) -> None:
    Path("names.txt").write_text("a\nb\n\nc\n")
    said = "MEAN = np.array([0.5, 0.4, 0.3])\nSTD = (0.2,) * 3\nCLASSES = 'names.txt'\n"
    found = load(mine("build", said))
    assert (found.mean, found.std, found.classes) == ((0.5, 0.4, 0.3), (0.2,) * 3, ("a", "b", "c"))
    found = load(mine("Net(size=48, mean='0 0 0', std='1, 1, 1')", said + "class Net(nn.Module):\n" + NET))
    assert (found.size, found.mean, found.std, found.classes) == (48, (0.0,) * 3, (1.0,) * 3, ("a", "b", "c"))


NET = """
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
    def forward(self, x):
        return self.conv(x).mean((2, 3))
"""


def test_a_classifier_says_the_rest_and_brackets_win(mine: Callable[..., str]) -> None:
    found = load(mine("brought(std='2 2 2')"))
    assert (found.mean, found.std, found.label_space) == ((0.1,) * 3, (2.0,) * 3, "birds")
    assert found.classes == ("a", "b", "c")
    assert rapbench.Classifier is Classifier


def test_a_thousand_classes_are_imagenets_unless_said_otherwise(mine: Callable[..., str]) -> None:
    found = load(mine("thousand"))
    assert (found.label_space, found.classes[281]) == ("imagenet", "tabby")
    other = load(mine("thousand", "CLASSES = [f'kind {n}' for n in range(1000)]\n"))
    assert (other.label_space, other.classes[281]) == ("", "kind 281")
    assert load(mine("thousand(classes=imagenet)", "CLASSES = ['a']\n")).classes == found.classes


def test_weights_are_held_in_float32(mine: Callable[..., str]) -> None:
    assert {parameter.dtype for parameter in load(mine("half")).module.parameters()} == {torch.float32}


def test_a_network_s_source_is_that_of_the_file_it_is_named_in(mine: Callable[..., str]) -> None:
    name = mine("resnet18", "from torchvision.models import resnet18\n")
    first = load(name, "random").source
    assert (
        first != load(mine("resnet18", "from torchvision.models import resnet18\nMEAN = (0, 0, 0)\n"), "random").source
    )


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        (
            "number",
            r"number returned an object of type int: a network is wanted, an nn\.Module or a rapbench\.Classifier",
        ),
        ("raising", r"mine\.py:raising raised FileNotFoundError: .*weights\.npz"),
        ("bare", "returned a network without weights"),
        ("lazy", "whose lazy layers have no weights yet"),
        ("Quantised", r"that holds what is no tensor, such as _extra_state"),
        ("leaving", "leaving raised SystemExit: 3"),
        ("maps", r"returns a tensor of shape \(2, 4, 30, 30\) for 2 images: logits of shape \(2, classes\) are wanted"),
        ("Pair", "returns an object of type tuple for 2 images"),
        ("NET", "is neither a function that returns a network nor a family"),
        ("SIZE", "is neither a function that returns a network nor a family"),
        ("build(size=64)", r"does not take images of 3 x 64 x 64 \(.*\): say what it takes by MEAN, STD and SIZE"),
        ("build(mean=0.5, std=0.5)", "does not take images of 1 x 32 x 32 .*to have 3 channels, but got 1"),
        ("build(mean=0.5)", "has 1 means and 3 divisors"),
        ("build(std='1 0 1')", "std is a number above 0 a channel, such as '0.5 0.5 0.5', not '1 0 1'"),
        ("build(mean=nan)", "mean is a number a channel"),
        ("build(size=2.5)", "size is a side in pixels up to 4096, such as 224, not '2.5'"),
        ("build(widht=2)", r"build has no parameter 'widht': did you mean width\?"),
        ("build(width=wide)", "build.* raised TypeError"),
        ("needy", r"needs a value: write .*mine\.py:needy\(depth=\.\.\.\)"),
        ("formed(num_classes=3)", "formed has no parameter 'num_classes'"),
        ("large", "a Classifier of size 299: write SIZE = 299 beside its function too"),
        ("thousand(classes=absent.txt)", r"no file absent\.txt of class names"),
        ("thousand(classes=few.txt)", "has 1000 logits, and 2 classes have names"),
    ],
)
def test_what_does_not_fit_is_one_line(mine: Callable[..., str], attribute: str, message: str) -> None:
    Path("few.txt").write_text("a\nb\n")
    with pytest.raises((BadConfig, DataMissing), match=message) as raised:
        load(mine(attribute), "random" if "formed" in attribute else "auto")
    assert "\n" not in str(raised.value)


def test_a_family_takes_no_brackets() -> None:
    with pytest.raises(BadConfig, match="narrow:VGG16 takes no parameters: leave out the brackets"):
        family("rapbench.models.narrow:VGG16(width=2)")


def test_images_of_other_channels_are_said(mine: Callable[..., str]) -> None:
    grey = load(mine("build(channels=1, mean=0, std=1)"))
    assert grey.normalised(torch.ones(2, 1, 32, 32)).shape == (2, 1, 32, 32)
    with pytest.raises(BadConfig, match=r"mine\.py:build.* takes images of 1 channels, and these have 3"):
        grey.normalised(torch.ones(2, 3, 32, 32))


def test_what_a_network_s_code_prints_is_not_the_command_s_output(
    mine: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    load(mine("loud", "print('read')\ndef loud():\n    print('built')\n    return build()\n"))
    printed = capsys.readouterr()
    assert (printed.out, printed.err.split()[:2]) == ("", ["read", "built"])

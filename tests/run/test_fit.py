"""Fitting patterns: what is written, what is read how often, and what happens when it is stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from doubles import Squares
from torch import nn

from rapbench.core.errors import BadConfig, BadWeights, SpecMismatch, UnsupportedLayer
from rapbench.core.files import File
from rapbench.core.types import Classifier, Sample
from rapbench.datasets.scenes import Scenes
from rapbench.methods.pattern import PatternAttribution
from rapbench.methods.signals.patterns import Patterns
from rapbench.models import load_classifier
from rapbench.run import fit as fitting
from rapbench.run.fit import fit, patterns_for
from rapbench.run.reading import Images

CPU = torch.device("cpu")


class Counted(Squares):
    """Squares that count how often each was read."""

    read: ClassVar[list[int]] = []

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        return super().__getitem__(index)


@pytest.fixture
def classifier() -> Classifier:
    Counted.read.clear()
    return load_classifier("doubles:tiny", "random", label_space="", seed=0)


def flipped(content: bytes, tenths: int) -> bytes:
    """With one bit another, so many tenths from the beginning."""
    place = (len(content) - 1) * tenths // 10
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


FLIPS = [partial(flipped, tenths=tenths) for tenths in (0, 2, 5, 9, 10)]


def images(stop: int, **options: int) -> Images:
    return Images(dataset=Counted(**options), name="squares", stop=stop)  # type: ignore[arg-type]


def test_every_image_is_read_once_and_what_is_there_is_not_fitted_again(classifier: Classifier, tmp_path: Path) -> None:
    file, told = tmp_path / "made" / "p.safetensors", []
    patterns = fit(classifier, images(20), file, device=CPU, progress=told.append)
    assert sorted(Counted.read) == list(range(20))
    assert sum(told) == 20
    assert set(patterns.tensors["a"]) == {"0", "3"}
    assert fit(classifier, images(20), file, device=CPU).digest == patterns.digest == Patterns.load(file).digest
    assert len(Counted.read) == 20
    assert [path.name for path in file.parent.iterdir()] == ["p.safetensors"]
    x = classifier.normalised(torch.stack([Squares()[0].image]))
    relevance = PatternAttribution(patterns=File(Patterns, file))(
        classifier.module, x, torch.tensor([1]), seeds=torch.tensor([0])
    )
    assert relevance.shape == x.shape


def test_a_file_that_cannot_be_written_is_said_before_an_image_is_read(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadConfig, match=r"cannot write into .*file \(.*\): choose another --to"):
        fit(classifier, images(20), tmp_path / "file" / "p.safetensors", device=CPU)
    assert Counted.read == []


def test_a_fit_that_was_stopped_goes_on_and_ends_in_the_same_patterns(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(classifier, images(40), tmp_path / "whole.safetensors", device=CPU)
    monkeypatch.setattr(fitting, "_SAVED_EVERY", 16)
    file, done = tmp_path / "stopped.safetensors", []

    def stop(count: int) -> None:
        done.append(count)
        if sum(done) >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(classifier, images(40), file, device=CPU, progress=stop)
    assert not file.exists()
    Counted.read.clear()
    told: list[int] = []
    again = fit(classifier, images(40), file, device=CPU, progress=told.append)
    assert min(Counted.read) == 16
    assert told[0] == 16
    assert sum(told) == 40
    assert again.digest == whole.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped.safetensors", "whole.safetensors"]


def test_sums_of_another_fit_are_not_gone_on_with(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "_SAVED_EVERY", 8)
    file = tmp_path / "p.safetensors"

    def stop(count: int) -> None:
        if count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(classifier, images(40), file, device=CPU, progress=stop)
    Counted.read.clear()
    fit(classifier, images(24), file, device=CPU)
    assert sorted(Counted.read) == list(range(24))


@pytest.mark.parametrize("damage", [lambda content: content[:1000], lambda content: b"", *FLIPS])
def test_damaged_sums_are_said_and_begun_anew(
    classifier: Classifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setattr(fitting, "_SAVED_EVERY", 8)
    file = tmp_path / "p.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(classifier, images(24), file, device=CPU, progress=_stopping)
    (partial,) = tmp_path.iterdir()
    partial.write_bytes(damage(partial.read_bytes()))
    Counted.read.clear()
    with caplog.at_level(logging.WARNING):
        fit(classifier, images(24), file, device=CPU)
    assert sorted(Counted.read) == list(range(24))
    assert sum(f"{partial} is damaged" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("damage", FLIPS)
def test_a_damaged_file_of_patterns_is_refused(
    classifier: Classifier, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    file = tmp_path / "p.safetensors"
    fit(classifier, images(8), file, device=CPU)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(BadWeights, match=rf"^{file} holds no patterns: [^\n]+; move it away"):
        Patterns.load(file)


def _stopping(count: int) -> None:
    if count:
        raise KeyboardInterrupt


def test_a_file_of_other_patterns_is_not_overwritten(classifier: Classifier, tmp_path: Path) -> None:
    file = tmp_path / "p.safetensors"
    fit(classifier, images(8), file, device=CPU)
    with pytest.raises(SpecMismatch, match=r"p\.safetensors holds other patterns"):
        fit(classifier, images(16), file, device=CPU)


def test_images_that_cannot_be_read_are_left_out_and_said(
    classifier: Classifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        fit(classifier, images(10, unreadable_every=4), tmp_path / "p.safetensors", device=CPU)
    assert [r.message for r in caplog.records if "left out" in r.message] == [
        f"left out: unreadable image: square-{n}.png" for n in (1, 5, 9)
    ]


def test_units_that_never_fired_are_said_by_layer(
    classifier: Classifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = classifier.module[0]
    assert isinstance(first, nn.Conv2d)
    assert first.bias is not None
    first.bias[2] = -1e4
    with caplog.at_level(logging.WARNING):
        patterns = fit(classifier, images(8), tmp_path / "p.safetensors", device=CPU)
    assert patterns.silent["0"] == (2,)
    assert any(r.message.startswith("0: 1 units never fired on 8 images (2)") for r in caplog.records)


def test_too_few_images_and_networks_without_patterns_are_refused(tmp_path: Path, classifier: Classifier) -> None:
    with pytest.raises(BadConfig, match="too few images"):
        fit(classifier, images(1), tmp_path / "p.safetensors", device=CPU)
    residual = load_classifier("resnet18", "random", label_space="", seed=0)
    Counted.read.clear()
    with pytest.raises(UnsupportedLayer, match="fit-patterns has no rule for add"):
        fit(residual, images(8), tmp_path / "q.safetensors", device=CPU)
    assert not Counted.read


def test_generated_images_fit_their_own_patterns_on_first_use(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "_AUTOMATIC", 8)
    file = patterns_for(classifier, Scenes(), tmp_path)
    patterns = Patterns.load(file)
    assert patterns.source["images"] == "0-8 of scenes(stream=train)"
    assert "train" in patterns.source["fingerprint"]
    written = file.stat().st_mtime_ns
    assert patterns_for(classifier, Scenes(), tmp_path) == file
    assert file.stat().st_mtime_ns == written
    assert patterns_for(classifier, Scenes(seed=1), tmp_path) != file
    with pytest.raises(BadConfig, match="rapbench fit-patterns"):
        patterns_for(classifier, Squares(), tmp_path)

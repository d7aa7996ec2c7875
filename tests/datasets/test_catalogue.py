import pickle
from typing import get_args

import pytest

from rapbench.core.abilities import Varied
from rapbench.core.types import Need
from rapbench.datasets import DATASETS
from rapbench.datasets.scenes import Scenes

FULL_SIZES = {"scenes": None, "imagenet": 50_000, "imagenet_segmentation": 4276}


@pytest.mark.parametrize("name", list(DATASETS))
def test_a_class_says_what_every_data_set_says(name: str) -> None:
    described = DATASETS.load(name)
    assert described.name == name
    provided = described.provided({}) if isinstance(described, Varied) else described.provides
    assert provided <= set(get_args(Need))
    assert described.label_space in {"imagenet", "scenes", "digits", ""}
    assert described.full_size == FULL_SIZES.get(name, described.full_size)


def test_generated_photographs_survive_pickling() -> None:
    scenes = Scenes(size=64)
    copy = pickle.loads(pickle.dumps(scenes))  # noqa: S301 - our own bytes
    assert copy[5].image.equal(scenes[5].image)

"""Weight files: read without running code from them, checked against a network, told apart by a digest."""

import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rapbench.core.errors import BadWeights, DataMissing, first_line

SUFFIXES = (".pt", ".pth", ".safetensors", ".npz")
"""What names of weight files end in."""
KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")
"""What those of Keras end in."""

_READING = (
    *(OSError, ValueError, TypeError, LookupError, RuntimeError, EOFError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError),
)
"""What the three libraries raise on files that are truncated, corrupt or hold more than tensors."""
_TRAINING_ONLY = ("aux1.", "aux2.", "AuxLogits.")
"""Heads of GoogLeNet and Inception that only training uses."""
_DENSENET_OF_2017 = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
_NUM_CLASSES = 1000
_SHOWN = 5


def names_file(weights: str) -> bool:
    """Whether weights are given as a file, not by name."""
    return Path(weights).suffix in SUFFIXES + KERAS_SUFFIXES or Path(weights).exists()


def read_state(file: Path) -> dict[str, Tensor]:
    """The state dict in a PyTorch, safetensors or NumPy archive; floating-point tensors as float32.

    PyTorch files may hold it under `state_dict` or `model`, and with the prefix `module.` of a parallel network.

    Raises:
        DataMissing: no such file.
        BadWeights: the file cannot be read or holds no state dict.
    """
    if not file.is_file():
        raise DataMissing(f"no weight file {file}")
    if file.suffix not in SUFFIXES:
        raise BadWeights(f"cannot tell what {file} holds: weight files end in {', '.join(SUFFIXES)}")
    try:
        content = _content(file)
    except _READING as error:
        raise BadWeights(f"cannot read weights from {file}: {first_line(error)}") from error
    return {_current_name(key): _float32(tensor) for key, tensor in _state_dict(content, file).items()}


def fitted(build: Callable[[int], nn.Module], state: Mapping[str, Tensor], source: str) -> nn.Module:
    """The network that `build` makes for as many classes as the weights tell apart, with these weights.

    Counters of batches seen in training may be missing; heads that only training uses may be there.

    Args:
        build: number of classes -> network with its weights in any state.
        state: state dict.
        source: where the weights come from, for the error.

    Raises:
        BadWeights: keys or shapes do not fit; the message names some of each.
    """
    with torch.device("meta"):
        head = last_weight(build(_NUM_CLASSES))
        num_classes = len(state[head]) if head in state and state[head].ndim else 0
        module = build(num_classes or _NUM_CLASSES)
    _check(module.state_dict(), state, source)
    module.to_empty(device="cpu")
    for key, tensor in module.state_dict().items():
        tensor.copy_(state[key]) if key in state else tensor.zero_()
    return module


def last_weight(module: nn.Module) -> str:
    """Name of the weight whose rows are the classes."""
    return [name for name, _ in module.named_parameters() if name.endswith("weight")][-1]


def state_digest(module: nn.Module) -> str:
    """SHA-256 over name, type, shape and bytes of every tensor of the state dict, in order."""
    digest = hashlib.sha256()
    for key, tensor in module.state_dict().items():
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _content(file: Path) -> object:
    if file.suffix == ".safetensors":
        return load_file(file)
    if file.suffix == ".npz":
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old formats, which either load or raise
        return torch.load(file, map_location="cpu", weights_only=True)


def _state_dict(content: object, file: Path) -> Mapping[str, Tensor]:
    if isinstance(content, Mapping):
        content = next((content[key] for key in ("state_dict", "model") if key in content), content)
    if not isinstance(content, Mapping) or not content or not all(map(_is_named_tensor, content.items())):
        raise BadWeights(f"{file} holds no state dict: a mapping from names to tensors is wanted")
    return content


def _is_named_tensor(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _current_name(key: str) -> str:
    return _DENSENET_OF_2017.sub(r"\1\2", key.removeprefix("module."))


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _check(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    faults = {
        "missing": [key for key in wanted.keys() - state.keys() if not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in state.keys() - wanted.keys() if not key.startswith(_TRAINING_ONLY)],
        "of another shape or type": [
            f"{key} {_kind(state[key])} for {_kind(wanted[key])}"
            for key in wanted.keys() & state.keys()
            if _kind(state[key]) != _kind(wanted[key])
        ],
    }
    told = [f"{len(keys)} {fault}: {_some(keys)}" for fault, keys in faults.items() if keys]
    if told:
        raise BadWeights(f"{source} does not fit: {'; '.join(told)}")


def _kind(tensor: Tensor) -> tuple[int | str, ...]:
    return (*tensor.shape, "float" if tensor.is_floating_point() else "integer")


def _some(keys: Iterable[str]) -> str:
    keys = sorted(keys)
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")

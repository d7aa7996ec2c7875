"""Weight files: read without running code from them, checked against a network, told apart by a digest."""

import argparse
import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rapbench.core.errors import BadWeights, DataMissing, first_line

SUFFIXES = (".pt", ".pth", ".tar", ".ckpt", ".bin", ".safetensors", ".npz")
"""What names of weight files end in."""
KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")
"""What those of Keras end in."""

_READING = (
    *(OSError, ValueError, TypeError, LookupError, RuntimeError, EOFError, MemoryError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError),
)
"""What the three libraries raise on files that are truncated, corrupt or hold more than tensors."""
_MOST_BYTES = 2**33
"""More than any network here has; a small file can claim more, and would fill the memory."""
_HOLDERS = ("state_dict", "model_state_dict", "model", "net")
"""Under which of its entries a training script keeps the state dict."""
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod)\.)+|\b_orig_mod\.")
"""What parallel and compiled networks put before the names of the network inside."""
_AVERAGED = "n_averaged"
"""Counter of a network that holds averages of weights."""
_TEXT = re.compile(rb"[\t\n\r -~]*")
_FOREIGN = re.compile(r"Unsupported (?:global|class|operand)[^:]*: (?:GLOBAL )?([\w.]+)")
_TRAINING_ONLY = ("aux1.", "aux2.", "AuxLogits.")
"""Heads of GoogLeNet and Inception that only training uses."""
_DENSENET_OF_2017 = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
_NUM_CLASSES = 1000
_SHOWN = 5

_DRAWING = {Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_}


class Undrawn(TorchFunctionMode):
    """Weights of networks built meanwhile are not drawn, which takes seconds for many: they will be overwritten."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        tensor = args[0] if args else given.get("tensor")
        return tensor if func in _DRAWING and isinstance(tensor, nn.Parameter) else func(*args, **given)


def names_file(weights: str) -> bool:
    """Whether weights are given as a file, not by name."""
    return Path(weights).suffix in SUFFIXES + KERAS_SUFFIXES or Path(weights).exists()


def read_state(file: Path) -> dict[str, Tensor]:
    """The state dict in a PyTorch, safetensors or NumPy archive; floating-point tensors as float32.

    PyTorch files may be checkpoints as training scripts save them: the state dict under a name such as `model`, beside
    other things, and with the prefixes of a parallel or compiled network.

    Raises:
        DataMissing: no such file.
        BadWeights: the file cannot be read or holds no state dict.
    """
    refuse_no_archive(file)
    if file.suffix not in SUFFIXES:
        raise BadWeights(f"cannot tell what {file} holds: weight files end in {', '.join(SUFFIXES)}")
    try:
        content = _content(file)
    except _READING as error:
        raise BadWeights(f"cannot read weights from {file}: {_told(error)}") from error
    state = _state_dict(content, file)
    refuse_too_large(sum(tensor.numel() * tensor.element_size() for tensor in state.values()), file)
    return {_current_name(key): _float32(tensor) for key, tensor in state.items() if key != _AVERAGED}


def refuse_no_archive(file: Path) -> None:
    """Refuses what cannot hold weights, whatever its name ends in.

    Raises:
        DataMissing: no such file.
        BadWeights: it is empty, or text such as the page of a failed download.
    """
    if not file.is_file():
        raise DataMissing(f"no weight file {file}")
    with file.open("rb") as stream:
        start = stream.read(200)
    if _TEXT.fullmatch(start):
        what = f"text, which begins {start.decode().splitlines()[0][:60]!r}" if start else "empty"
        raise BadWeights(f"cannot read weights from {file}: it is {what}; copy or download it again")


def refuse_too_large(num_bytes: int, file: Path) -> None:
    """Refuses a file whose arrays claim more memory than any network takes, before they are made.

    Raises:
        BadWeights: it is so.
    """
    if num_bytes > _MOST_BYTES:
        raise BadWeights(f"cannot read weights from {file}: they claim {num_bytes / 2**30:.0f} GiB")


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
    with Undrawn():
        module = build(_NUM_CLASSES)
        head, unwrapped = last_weight(module), _unwrapped(state, module.state_dict().keys())
        num_classes = len(unwrapped[head]) if head in unwrapped and unwrapped[head].ndim else 0
        if num_classes not in {0, _NUM_CLASSES}:
            module = build(num_classes)
    return filled(module, state, source)


def filled(module: nn.Module, state: Mapping[str, Tensor], source: str) -> nn.Module:
    """The network with other weights; what may be missing or too much is as in `fitted`.

    Raises:
        BadWeights: keys or shapes do not fit; the message names some of each.
    """
    held = module.state_dict()
    state = _unwrapped(state, held.keys())
    _check(held, state, source)
    for key, tensor in held.items():
        tensor.copy_(state[key]) if key in state else tensor.zero_()
    return module


def last_weight(module: nn.Module) -> str:
    """Name of the weight whose rows are the classes; empty where the network has none."""
    return next((name for name, _ in reversed([*module.named_parameters()]) if name.endswith("weight")), "")


def count_classes(module: nn.Module) -> int:
    """Rows of that weight, 0 where there is none."""
    return len(module.get_parameter(name)) if (name := last_weight(module)) else 0


def refuse_not_finite(module: nn.Module, source: str) -> None:
    """Refuses a network that computes nothing.

    Raises:
        BadWeights: a weight or a statistic of a batch norm is NaN or infinite; the message names some.
    """
    statistics = (item for item in module.named_buffers() if item[0].endswith(("running_mean", "running_var")))
    broken = [key for key, tensor in (*module.named_parameters(), *statistics) if not tensor.isfinite().all()]
    if broken:
        raise BadWeights(f"{source}: NaN or infinity in {_some(broken)}")


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
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            refuse_too_large(sum(member.file_size for member in archive.infolist()), file)
    if file.suffix == ".npz":
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):  # a script's options
        warnings.simplefilter("ignore")  # of old formats, which either load or raise
        return torch.load(file, map_location="cpu", weights_only=True)


def _told(error: Exception) -> str:
    """What went wrong, with the cure where a file holds more than tensors."""
    foreign = _FOREIGN.search(str(error))
    if foreign is None:
        return first_line(error)
    return f"it holds a {foreign[1]}, whose code would be run; save model.state_dict() alone"


def _state_dict(content: object, file: Path) -> Mapping[str, Tensor]:
    if isinstance(content, Mapping):
        content = next((content[key] for key in _HOLDERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content or not all(map(_is_named_tensor, content.items())):
        raise BadWeights(f"{file} holds no state dict: a mapping from names to tensors is wanted")
    return content


def _is_named_tensor(item: tuple[object, object]) -> bool:
    key, value = item
    plain = isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
    return isinstance(key, str) and plain


def _current_name(key: str) -> str:
    return _DENSENET_OF_2017.sub(r"\1\2", _WRAPPERS.sub("", key))


def _unwrapped(state: Mapping[str, Tensor], wanted: Collection[str]) -> Mapping[str, Tensor]:
    """The state dict without what all of its keys begin with: the name of the network in a module that trained it."""
    while state and not any(key in wanted for key in state):
        (outer, *others) = {key.partition(".")[0] for key in state}
        if others or any("." not in key for key in state):
            break
        state = {key.removeprefix(f"{outer}."): tensor for key, tensor in state.items()}
    return state


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

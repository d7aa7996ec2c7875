"""Goes over the classifiers of torchvision and timm and says which of them each method explains.

    python scripts/networks.py --to results/networks.md

Weights are random, batch norm statistics are not those of a fresh network, numbers are float64, pictures are as small
as a network takes. A network is explained where its graph gives its logits, the map is finite, that of an image alone
is that of the image beside another, and the map sums to what its method promises; else it must be refused in one line.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn
from torchvision import models

from rapbench.core.abilities import Complete
from rapbench.core.catalogue import parse_call
from rapbench.core.errors import RapbenchError, first_line
from rapbench.core.types import Method
from rapbench.methods import METHODS
from rapbench.relprop.graph import Graph
from rapbench.relprop.tracing.checked import verify
from rapbench.relprop.tracing.trace import trace

NAMES = (
    *("rap", "lrp_epsilon", "lrp_a2b1", "attn_lrp", "deeplift_rescale", "guided_backprop", "grad_cam"),
    "input_gradient",
)
TIMM = (
    *("resnet10t", "seresnet33ts", "ecaresnet26t", "skresnet18", "resnest14d", "resnetv2_50", "res2net50_14w_8s"),
    *("densenet121", "dla34", "dpn48b", "vgg11_bn", "mobilenetv2_050", "mobilenetv3_small_050"),
    *("mobilenetv4_conv_small_035", "efficientnet_lite0", "tf_efficientnetv2_b0", "mixnet_s", "ghostnet_050"),
    *("hrnet_w18_small", "regnetx_002", "repvgg_a0", "mobileone_s0", "ese_vovnet19b_dw", "selecsls42", "nf_resnet26"),
    *("inception_v4", "xception41", "convnext_atto", "fastvit_t8", "levit_128s", "xcit_nano_12_p16_224"),
    *("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "cait_xxs24_224", "mixer_s16_224", "resmlp_12_224"),
    *("poolformer_s12", "edgenext_xx_small", "pvt_v2_b0", "gernet_s"),
)
LARGEST = 150_000_000
"""Parameters above which a network is left out."""
SMALLEST, INCEPTION = 32, 80
BOUND, TOTAL = 1e-7, 1e-6
"""By what share a map of one image may differ from that of two, and a sum from what is promised."""
ROUNDINGS = 1e3
"""How often a sum may be rounded: positive and negative relevance of random networks can be 1e15 times their sum."""


@dataclass(frozen=True)
class Subject:
    """A network to build: where from, its name, the side of its pictures."""

    library: str
    name: str
    side: int
    build: Callable[[], nn.Module]


def of_torchvision() -> Iterator[Subject]:
    """Every classifier of torchvision."""
    for name in models.list_models(module=models):
        options: dict[str, object] = {}
        side = INCEPTION if name in {"inception_v3", "alexnet"} else SMALLEST
        if name.startswith("vit"):
            options = {"image_size": 2 * int(name.rpartition("_")[2])}
            side = int(str(options["image_size"]))
        if name in {"googlenet", "inception_v3"}:
            options = {"init_weights": False}
        if name.startswith("maxvit"):
            side = 224
        yield Subject("torchvision", name, side, lambda name=name, options=options: models.get_model(name, **options))


def of_timm() -> Iterator[Subject]:
    """Forty classifiers of timm, one or two of a family."""
    import timm

    for name in TIMM:
        about = timm.get_pretrained_cfg(name)
        side = (
            about.input_size[1] if about.fixed_input_size else max(2 * SMALLEST, (about.min_input_size or (0, 0, 0))[1])
        )
        side = INCEPTION if name.startswith("inception") else side
        yield Subject("timm", name, side, lambda name=name: timm.create_model(name, pretrained=False))


def lively(net: nn.Module) -> nn.Module:
    """The network in float64 with statistics and zero weights drawn."""
    for module in net.modules():
        for key, low, high in (("running_mean", -0.1, 0.1), ("running_var", 0.5, 1.5)):
            if isinstance(statistic := getattr(module, key, None), Tensor):
                nn.init.uniform_(statistic, low, high)
    for parameter in net.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return net.double().eval().requires_grad_(requires_grad=False)


def size_of(subject: Subject) -> int:
    """Number of parameters, as torchvision says it; timm's are chosen small."""
    about = models.get_model_weights(subject.name).DEFAULT.meta if subject.library == "torchvision" else {}
    return int(about.get("num_params", 0))


def outcomes(subject: Subject) -> list[str]:
    """What each method does with a network: 'explained', why it is refused, or what is wrong."""
    torch.manual_seed(0)
    net = lively(subject.build())
    x = torch.randn(2, 3, subject.side, subject.side, dtype=torch.float64)
    with torch.no_grad():
        logits: Tensor = net(x.clone())
    try:
        graph = trace(net, x)
        verify(graph, net, x, logits)
    except RapbenchError as error:
        return [reason(error)] * len(NAMES)
    return [outcome(METHODS.build(parse_call(name)), graph, net, x, logits) for name in NAMES]


def outcome(method: Method, graph: Graph, net: nn.Module, x: Tensor, logits: Tensor) -> str:
    """What one method does with a network."""
    target, seeds = logits.argmax(1), torch.zeros(2, dtype=torch.int64)
    try:
        both = method(graph, x, target, seeds=seeds)
        alone = method(graph, x[:1], target[:1], seeds=seeds[:1])
    except RapbenchError as error:
        return reason(error)
    except Exception as error:  # noqa: BLE001 - what the page is for
        return f"WRONG: crash {type(error).__name__}: {first_line(error)[:80]}"
    if not both.isfinite().all():
        return "WRONG: not finite"
    if float((alone - both[:1]).abs().max()) > BOUND * float(both[:1].abs().max()):
        return "WRONG: an image alone has another map"
    total = method.total(lambda inputs: net(inputs.clone()), x, target) if isinstance(method, Complete) else None
    if total is not None:
        apart = (both.flatten(1).sum(1) - total).abs()
        rounding = ROUNDINGS * torch.finfo(both.dtype).eps * both.abs().flatten(1).sum(1)
        if not (apart <= TOTAL * (1 + total.abs()) + rounding).all():
            return "WRONG: the sum is not what is promised"
    return "explained"


def reason(error: RapbenchError) -> str:
    """The class of a refusal: what there is no rule for, or what cannot be followed."""
    line = str(error)
    if found := re.search(r"has no rule for (\w+)", line):
        return f"no rule for {found.group(1)}"
    if found := re.search(r"cannot follow \w+ at .*: (.*)", line):
        return found.group(1)
    return re.sub(r" at node .*", "", line)


def page(rows: list[tuple[Subject, list[str]]], left_out: list[str], seconds: float) -> str:
    """The counts, then the table."""
    every = [cell for _, cells in rows for cell in cells]
    lines = ["# Networks and methods", "", *(__doc__ or "").strip().splitlines()[3:], ""]
    lines += [f"{len(rows)} networks, {seconds / 60:.0f} minutes on one core, torch {torch.__version__}.", ""]
    lines += ["| method | explained | refused | wrong |", "| --- | --- | --- | --- |"]
    for n, name in enumerate(NAMES):
        cells = [cells[n] for _, cells in rows]
        explained, wrong = cells.count("explained"), sum(cell.startswith("WRONG") for cell in cells)
        lines.append(f"| {name} | {explained} | {len(cells) - explained - wrong} | {wrong} |")
    lines += ["", "| refused because | times |", "| --- | --- |"]
    refused = Counter(cell for cell in every if cell != "explained" and not cell.startswith("WRONG"))
    lines += [f"| {why} | {times} |" for why, times in refused.most_common()]
    if left_out:
        lines += ["", f"Left out, with more than {LARGEST // 10**6} million parameters: {', '.join(left_out)}."]
    lines += ["", f"| library | network | side | {' | '.join(NAMES)} |", f"|{' --- |' * (len(NAMES) + 3)}"]
    for subject, cells in rows:
        shown = ("yes" if cell == "explained" else cell for cell in cells)
        lines.append(f"| {subject.library} | {subject.name} | {subject.side} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def main(
    to: Annotated[Path | None, typer.Option(help="File of the page; printed where none is named.")] = None,
    only: Annotated[str, typer.Option(help="Networks whose name holds this.")] = "",
) -> None:
    """Writes the page."""
    warnings.simplefilter("ignore")  # the libraries' own
    torch.set_num_threads(1)
    subjects = list(of_torchvision())
    if importlib.util.find_spec("timm"):
        subjects += of_timm()
    else:
        print("timm is not installed: its networks are left out", file=sys.stderr)
    start, rows, left_out = time.monotonic(), [], []
    for subject in [subject for subject in subjects if only in subject.name]:
        if size_of(subject) > LARGEST:
            left_out.append(subject.name)
            continue
        began = time.monotonic()
        rows.append((subject, outcomes(subject)))
        print(f"{subject.name}: {time.monotonic() - began:.0f} s, {Counter(rows[-1][1])}", file=sys.stderr, flush=True)
    text = page(rows, left_out, time.monotonic() - start)
    if to:
        to.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    typer.run(main)

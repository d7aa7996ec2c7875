"""Trains the embedded narrow networks on generated scenes and writes their weights.

    python scripts/train_scenes.py --model vgg16 --cache /tmp/scenes --output rapbench/models/weights

The train images are rendered once into the cache folder (150 kB each). The side of the images grows while training:
most steps see small ones, the last ones the full size. Every 50 steps the weights so far are written.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torchvision.models import VisionTransformer
from torchvision.models.resnet import Bottleneck

from rapbench.datasets.scenes import CLASSES, GENERATOR, Scenes
from rapbench.models.narrow import NARROW

MEAN = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)
STAGES = ((112, 0.65), (160, 0.85), (224, 1.00))
"""Side of the images, and the share of all steps after which the next side begins."""
FULL_SIZE = ((224, 1.00),)
"""The stages of a training that goes on from weights."""


def rendered(index: int, stream: str) -> tuple[NDArray[np.uint8], int]:
    """Image (224, 224, 3) and class."""
    pixels, _, label = Scenes(stream=stream).rendered(index)  # type: ignore[arg-type]
    return pixels, label


def stored_images(folder: Path, stream: str, count: int, workers: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first images (count, 224, 224, 3) and classes (count,) of a stream, from the cache or rendered into it."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{stream}-{GENERATOR}-{count}"
    pixels, labels = folder / f"{stem}-pixels.npy", folder / f"{stem}-labels.npy"
    if not labels.exists():
        images = np.lib.format.open_memmap(pixels, "w+", np.uint8, (count, 224, 224, 3))
        classes = np.empty(count, np.int64)
        with ProcessPoolExecutor(workers) as pool:
            for i, (image, label) in enumerate(pool.map(partial(rendered, stream=stream), range(count), chunksize=50)):
                images[i], classes[i] = image, label
        images.flush()
        np.save(labels, classes)
    return np.load(pixels, mmap_mode="r"), np.load(labels)


def as_input(pixels: NDArray[np.uint8], device: str, side: int = 224) -> Tensor:
    """Images (N, 3, side, side) in [0, 1], from bytes (224, 224, 3) averaged over the area of each pixel."""
    small = [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX)) for image in pixels]
    return torch.from_numpy(np.stack(small)).to(device).permute(0, 3, 1, 2).float() / 255


def normalised(images: Tensor) -> Tensor:
    """Network input."""
    return (images - MEAN.to(images.device)) / STD.to(images.device)


def varied(images: Tensor, rng: np.random.Generator) -> Tensor:
    """The batch turned, mirrored, with channels swapped and sometimes inverted: no class depends on any of these."""
    images = images.rot90(int(rng.integers(4)), (2, 3))[:, torch.from_numpy(rng.permutation(3)).to(images.device)]
    images = images.flip(3) if rng.random() < 0.5 else images
    return 1 - images if rng.random() < 0.25 else images


def initialise(net: nn.Module) -> None:
    """He initialisation, with quiet logits and residual branches that start at zero; a ViT keeps torchvision's.

    Source: He et al. 2015, Eq. 10.
    """
    if isinstance(net, VisionTransformer):
        return
    dense = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    for layer in (*dense, *(layer for layer in net.modules() if isinstance(layer, nn.Conv2d))):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    nn.init.normal_(dense[-1].weight, std=0.01)
    for block in net.modules():
        if isinstance(block, Bottleneck):
            nn.init.zeros_(block.bn3.weight)


def positions(net: VisionTransformer, side: int) -> Tensor:
    """Position embeddings (1, 1 + P, D) of the class token and of the patches of images of that side."""
    learnt = net.encoder.pos_embedding
    cells = net.image_size // net.patch_size
    grid = learnt[:, 1:].transpose(1, 2).unflatten(2, (cells, cells))
    resized = interpolate(grid, (side // net.patch_size,) * 2, mode="bilinear")
    return torch.cat([learnt[:, :1], resized.flatten(2).transpose(1, 2)], 1)


def vit_logits(net: VisionTransformer, x: Tensor) -> list[Tensor]:
    """Logits (N, K) of the class token, then those of the mean patch by the same head.

    The class token alone teaches the patches little before it attends to the right ones.
    """
    patches = net.conv_proj(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([net.class_token.expand(len(x), -1, -1), patches], 1) + positions(net, x.shape[-1])
    tokens = net.encoder.ln(net.encoder.layers(tokens))
    return [net.heads(tokens[:, 0]), net.heads(tokens[:, 1:].mean(1))]


def all_logits(net: nn.Module, x: Tensor) -> list[Tensor]:
    """The network's logits (N, K), then others (N, K) that are taught the same classes."""
    return vit_logits(net, x) if isinstance(net, VisionTransformer) else [net(x)]


def side_at(progress: float, stages: Sequence[tuple[int, float]]) -> int:
    """Side of the images after a share of all steps."""
    return next(side for side, until in stages if progress < until)


def stage(text: str) -> tuple[int, float]:
    """Side and share of SIDE:SHARE."""
    side, until = text.split(":")
    return int(side), float(until)


def optimizers(net: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """AdamW, and for the matrices of a ViT's blocks Muon, which learns them in fewer steps.

    Source: Loshchilov and Hutter 2019 (AdamW); Liu et al. 2025 (Muon with AdamW's learning rate).
    """
    if not isinstance(net, VisionTransformer):
        return [torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.02)]
    blocks = net.encoder.layers.named_parameters(prefix="encoder.layers")
    matrices = {name: weight for name, weight in blocks if weight.ndim == 2}
    others = [weight for name, weight in net.named_parameters() if name not in matrices]
    muon = torch.optim.Muon(matrices.values(), lr=lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    return [torch.optim.AdamW(others, lr=lr, weight_decay=0.02), muon]


def train(net: nn.Module, pixels: NDArray[np.uint8], labels: NDArray[np.int64], args: argparse.Namespace) -> None:
    """Runs one cycle of the learning rate."""
    updates = optimizers(net, args.lr)
    cycles = [
        torch.optim.lr_scheduler.OneCycleLR(each, args.lr, total_steps=args.steps, pct_start=0.1) for each in updates
    ]
    stages = args.stages or (FULL_SIZE if args.start else STAGES)
    rng = np.random.default_rng(args.seed)
    start, hits, losses = time.perf_counter(), 0.0, 0.0
    for step in range(args.steps):
        chosen = np.sort(rng.choice(len(labels), args.batch_size, replace=False))
        side = side_at(step / args.steps, stages)
        images = varied(as_input(pixels[chosen], args.device, side), rng)
        x = normalised(images).contiguous(memory_format=torch.channels_last)
        target = torch.from_numpy(labels[chosen]).to(args.device)
        with torch.autocast(args.device, torch.bfloat16):
            logits, *others = all_logits(net, x)
        loss = sum(cross_entropy(each.float(), target, label_smoothing=0.02) for each in (logits, *others))
        net.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for part in (*updates, *cycles):
            part.step()
        hits, losses = hits + (logits.argmax(1) == target).float().mean().item(), losses + loss.item()
        if (step + 1) % 50 == 0:
            seconds = time.perf_counter() - start
            print(
                f"step {step + 1} side {side} loss {losses / 50:.3f} top-1 {hits / 50:.4f} {seconds:.0f} s", flush=True
            )
            hits, losses = 0.0, 0.0
            save_file(rounded(net), args.output / f"{args.model}_scenes.safetensors")


@torch.no_grad()
def evaluate(net: nn.Module, pixels: NDArray[np.uint8], labels: NDArray[np.int64], device: str) -> None:
    """Prints top-1 overall and by class, and the least logit of a predicted class."""
    net.eval()
    batches = [net(normalised(as_input(pixels[i : i + 100], device))).cpu() for i in range(0, len(labels), 100)]
    score, predicted = torch.cat(batches).max(1)
    right = (predicted == torch.from_numpy(labels)).double()
    print(f"top-1 {right.mean():.4f} on {len(labels)} val images")
    print(f"logit of the predicted class: least {score.min():.2f}, mean {score.mean():.2f}")
    for index, name in enumerate(CLASSES):
        print(f"  {name}: {right[torch.from_numpy(labels == index)].mean():.4f}")


def rounded(net: nn.Module) -> dict[str, Tensor]:
    """State dict with float16 in place of float32."""
    state = {key: value.cpu().contiguous() for key, value in net.state_dict().items()}
    return {key: value.half() if value.is_floating_point() else value for key, value in state.items()}


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(NARROW), required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of the weights")
    parser.add_argument("--start", type=Path, help="weights to go on from, by default at the full size")
    parser.add_argument(
        "--stages", type=stage, nargs="+", help="SIDE:SHARE, side of the images until a share of all steps"
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder of the rendered images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--train-images", type=int, default=40_000)
    parser.add_argument("--val-images", type=int, default=3_000)
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of torch; rendering uses as many processes")
    return parser.parse_args()


def main() -> None:
    """Renders, trains, rounds, evaluates, writes."""
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    train_set = stored_images(args.cache, "train", args.train_images, args.threads)
    val_set = stored_images(args.cache, "val", args.val_images, args.threads)
    net = NARROW[args.model].builder(len(CLASSES))
    initialise(net)
    if args.start:
        net.load_state_dict(load_file(args.start))
    net = net.to(args.device, memory_format=torch.channels_last)
    print(f"{args.model}: {sum(p.numel() for p in net.parameters())} parameters", flush=True)
    args.output.mkdir(parents=True, exist_ok=True)
    train(net, *train_set, args)
    state = rounded(net)
    net.load_state_dict(state)
    evaluate(net, *val_set, args.device)
    save_file(state, args.output / f"{args.model}_scenes.safetensors")


if __name__ == "__main__":
    main()

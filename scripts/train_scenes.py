"""Trains the embedded narrow networks on generated scenes and writes their weights.

    python scripts/train_scenes.py --model vgg16 --cache /tmp/scenes --output rapbench/models/weights

The train images are rendered once into the cache folder (150 kB each). The side of the images grows while training:
most steps see small ones, the last ones the full size.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models.resnet import Bottleneck

from rapbench.datasets.scenes import CLASSES, GENERATOR, Scenes
from rapbench.models.narrow import NARROW

MEAN = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)
STAGES = ((112, 0.65), (160, 0.85), (224, 1.00))
"""Side of the images, and the share of all steps after which the next side begins."""


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
    """He initialisation, with quiet logits and residual branches that start at zero. Source: He et al. 2015, Eq. 10."""
    dense = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    for layer in (*dense, *(layer for layer in net.modules() if isinstance(layer, nn.Conv2d))):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    nn.init.normal_(dense[-1].weight, std=0.01)
    for block in net.modules():
        if isinstance(block, Bottleneck):
            nn.init.zeros_(block.bn3.weight)


def side_at(progress: float) -> int:
    """Side of the images after a share of all steps."""
    return next(side for side, until in STAGES if progress < until)


def train(net: nn.Module, pixels: NDArray[np.uint8], labels: NDArray[np.int64], args: argparse.Namespace) -> None:
    """Runs AdamW with one cycle of the learning rate."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.steps, pct_start=0.1)
    rng = np.random.default_rng(args.seed)
    start, hits, losses = time.perf_counter(), 0.0, 0.0
    for step in range(args.steps):
        chosen = np.sort(rng.choice(len(labels), args.batch_size, replace=False))
        side = 224 if args.start else side_at(step / args.steps)
        images = varied(as_input(pixels[chosen], args.device, side), rng)
        x = normalised(images).contiguous(memory_format=torch.channels_last)
        target = torch.from_numpy(labels[chosen]).to(args.device)
        with torch.autocast(args.device, torch.bfloat16):
            logits = net(x)
        loss = cross_entropy(logits.float(), target, label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        hits, losses = hits + (logits.argmax(1) == target).float().mean().item(), losses + loss.item()
        if (step + 1) % 50 == 0:
            seconds = time.perf_counter() - start
            print(
                f"step {step + 1} side {side} loss {losses / 50:.3f} top-1 {hits / 50:.4f} {seconds:.0f} s", flush=True
            )
            hits, losses = 0.0, 0.0


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
    parser.add_argument("--start", type=Path, help="weights to go on from; every step then sees the full size")
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
    train(net, *train_set, args)
    state = rounded(net)
    net.load_state_dict(state)
    evaluate(net, *val_set, args.device)
    args.output.mkdir(parents=True, exist_ok=True)
    save_file(state, args.output / f"{args.model}_scenes.safetensors")


if __name__ == "__main__":
    main()

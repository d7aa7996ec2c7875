"""A paper's table and figure from files to numbers, what they cost at full size, and two processes on one card."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from gpu.page import Section
from gpu.parity import run
from gpu.scene import Scene
from rapbench.core.types import Sample
from rapbench.datasets import DATASETS

FULL = 10_000
TABLE = "rap,lrp_a1b0,lrp_a2b1,gradient,input_gradient,integrated_gradients({}, points=left),guided_backprop"
FIGURE = "rap,lrp_a2b1,input_gradient,integrated_gradients({}, points=left),guided_backprop"
CURVES = "perturbation(orders=lerf, steps={0}),perturbation(orders=lerf, space=raw, steps={0})"
FIGURE_METHODS, STEPS, SPACES = 5, 40, 2


def photographs(folder: Path, count: int) -> None:
    """Writes `count` photograph-like JPEGs with boxes, laid out as ILSVRC2012's validation set."""
    for name in ("val", "bbox"):
        (folder / name).mkdir(parents=True)
    wnids = [f"n{n:08d}" for n in range(1, 1001)]
    (folder / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} thing\n" for wnid in wnids))
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda n: _photograph(folder, n, wnids[n % 1000]), range(1, count + 1)))


def _photograph(folder: Path, number: int, wnid: str) -> None:
    """One picture of 500 x 375: soft colours, an object with edges, and noise."""
    draw, stem = np.random.default_rng(number), f"ILSVRC2012_val_{number:08d}"
    coarse = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        (500, 375), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(coarse).astype(np.int16) + draw.integers(-12, 13, (375, 500, 3))
    left, top, width, height = (int(draw.integers(*bounds)) for bounds in ((20, 200), (20, 150), (80, 250), (80, 200)))
    pixels[top : top + height, left : left + width] = 255 - pixels[top : top + height, left : left + width]
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "val" / f"{stem}.JPEG", quality=90)
    box = f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{left + width}</xmax><ymax>{top + height}</ymax>"
    (folder / "bbox" / f"{stem}.xml").write_text(
        f"<annotation><filename>{stem}</filename><size><width>500</width><height>375</height><depth>3</depth></size>"
        f"<object><name>{wnid}</name><bndbox>{box}</bndbox></object></annotation>"
    )


def papers(section: Section, scene: Scene) -> None:
    """Table 1's and Figure 7's methods on synthetic photographs, from files to rows: float32 maps, scored in bf16."""
    count, scored = (2, 1) if scene.small else (512, 64)
    few = "steps=2" if scene.small else "steps=64"
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        photographs(Path(folder, "imagenet"), count)
        section.say(f"{count} photographs written in {time.perf_counter() - start:.1f} s")
        section.table("network", "stage", "images", "s", "images/s", "s at 10,000 images")
        for name in scene.networks:
            common = {"model": name, "weights": "random", "dataset": "imagenet", "data-root": folder, "select": "all"}
            common |= {"scoring_precision": "bf16", "device": scene.device, "out": f"{folder}/runs"}
            table = {"method": TABLE.format(few), "metric": "outside_inside", "limit": count}
            figure = {"method": FIGURE.format(few), "metric": CURVES.format(2 if scene.small else 40), "limit": scored}
            for title, own in (("table 1", table), ("figure 7", figure)):
                _stages(section, name, run(common | own, section), int(str(own["limit"])), title)


def reading(section: Section, scene: Scene) -> None:
    """Photographs decoded and squashed a second, by how many processes read."""
    count = 16 if scene.small else 512
    with tempfile.TemporaryDirectory() as folder:
        photographs(Path(folder), count)
        dataset = DATASETS.load("imagenet")(data_root=Path(folder))
        section.table("processes", "images/s")
        for processes in (1, 2) if scene.small else (1, 4, 8, 16):
            loader: DataLoader[Sample] = DataLoader(
                dataset,
                batch_size=None,
                num_workers=processes,
                prefetch_factor=8,
                persistent_workers=True,
                multiprocessing_context="forkserver",
            )
            list(loader)  # processes start, files come into the cache
            start = time.perf_counter()
            list(loader)
            section.row(processes, count / (time.perf_counter() - start))


def _stages(section: Section, name: str, document: dict[str, object], count: int, title: str) -> None:
    """What each kind of stage of a run took."""
    whole: dict[str, object] = document["run"]  # type: ignore[assignment]
    stages: dict[str, float] = whole["stages"]  # type: ignore[assignment]
    kinds: dict[str, float] = {}
    for stage, seconds in stages.items():
        kind = stage.split("(")[0].split(",")[0]
        kinds[kind] = kinds.get(kind, 0.0) + seconds
    for kind, seconds in kinds.items():
        section.row(name, f"{title}: {kind}", count, seconds, count / max(seconds, 1e-9), FULL * seconds / count)
    total = sum(stages.values())
    section.row(name, f"{title}: in all", count, total, count / total, FULL * total / count)


def full_size(section: Section, scene: Scene) -> None:
    """Figure 7 at full size, from the scoring rates measured above, in each arithmetic."""
    section.table(
        "network",
        "arithmetic",
        "forward passes, millions",
        "scoring/s",
        "minutes of scoring, 5 methods, LeRF, both zeros",
    )
    for key, speed in scene.rates.items():
        if key.startswith("scoring "):
            _, name, kind = key.split()
            passes = FULL * FIGURE_METHODS * STEPS * SPACES
            section.row(name, kind, passes / 1e6, speed, passes / speed / 60)


def workers(section: Section, scene: Scene) -> None:
    """One process and two on one card write the same shards."""
    options = {"dataset": "scenes", "model": "vgg16", "method": "rap,gradient", "device": scene.device}
    options |= {"limit": "8" if scene.small else "128", "metric": "outside_inside,perturbation(orders=lerf, steps=10)"}
    with tempfile.TemporaryDirectory() as folder:
        section.table("processes", "s, start included")
        for count in ("1", "2"):
            start, several = time.perf_counter(), {"workers": count} if count != "1" else {}
            run({**options, "out": f"{folder}/{count}", **several}, section)
            section.row(count, time.perf_counter() - start)
        one, two = (_shards(Path(folder, count)) for count in ("1", "2"))
    same = sum(two.get(path) == content for path, content in one.items())
    section.say(f"{len(one)} shards, {same} of them the same bytes")


def _shards(folder: Path) -> dict[Path, bytes]:
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.parquet")}

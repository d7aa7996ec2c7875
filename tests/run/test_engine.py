"""Runs from spec to rows: resumption, faults, and numbers that depend on nothing they should not."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles import Counting, Hungry, Squares

from rapbench.core.errors import BadConfig, BadData
from rapbench.core.types import Explained
from rapbench.metrics.outside_inside import OutsideInside

Run = Callable[..., tuple[list[dict[str, Any]], int]]


def value(results: list[dict[str, Any]], metric: str, variant: str) -> dict[str, Any]:
    (found,) = [r for r in results if (r["metric"], r["variant"]) == (metric, variant)]
    return found


def test_a_run_scores_what_its_method_returned(run: Run) -> None:
    results, computed = run(limit=5)
    data, means = Squares(), torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
    ratios = []
    for n in range(5):
        sample = data[n]
        pixels = ((sample.image - means) / torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)).double().sum(0)
        inside = sample.mask == 1
        up, down = pixels.clamp(min=0), -pixels.clamp(max=0)
        ratios.append((up[~inside].mean() + down[inside].mean()) / (up[inside].mean() + down[~inside].mean()))
    found = value(results, "outside_inside", "all")
    assert computed == 5
    assert found["value"] == pytest.approx(float(np.mean(ratios)), rel=1e-5)
    assert (found["n"], found["n_dropped"], found["direction"]) == (5, 0, "lower")
    assert found["ci_low"] <= found["value"] <= found["ci_high"]


def test_what_is_there_is_not_computed_again(run: Run) -> None:
    first, computed = run()
    again, recomputed = run()
    assert (computed, recomputed) == (40, 0)
    assert first == again


def test_another_metric_is_computed_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(metric="segmentation")

    def refuse(self: object, explained: Explained) -> None:
        raise AssertionError("segmentation was computed already")

    monkeypatch.setattr("rapbench.metrics.segmentation.Segmentation.__call__", refuse)
    results, computed = run(metric="segmentation,outside_inside")
    assert computed == 40
    assert value(results, "outside_inside", "all")["n"] == 40
    assert value(results, "segmentation", "miou@zero")["n"] == 40


def test_a_larger_limit_computes_only_the_blocks_it_adds(run: Run) -> None:
    Counting.explained.clear()
    run(limit=32)
    results, computed = run(limit=40)
    assert computed == 8
    assert sum(Counting.explained) == 40
    assert value(results, "outside_inside", "all")["n"] == 40


def test_a_smaller_limit_reads_the_longer_file(run: Run) -> None:
    whole, _ = run(limit=20)
    part, computed = run(limit=7)
    assert computed == 0
    assert value(part, "outside_inside", "all")["n"] == 7
    assert whole != part


def test_only_the_first_images_are_perturbed_when_so_told(run: Run) -> None:
    results, _ = run(metric="perturbation(images=3, steps=2),segmentation", limit=6)
    assert value(results, "perturbation(steps=2)", "abpc_accuracy")["n"] == 3
    assert value(results, "segmentation", "miou@zero")["n"] == 6


def test_numbers_do_not_depend_on_the_batch_size(run: Run, tmp_path: Path) -> None:
    methods = "rap,gradient,random,doubles:Counting"
    one, _ = run(method=methods, batch_size=1, limit=6, out=tmp_path / "a")
    many, _ = run(method=methods, batch_size=6, limit=6, out=tmp_path / "b")
    for a, b in zip(one, many, strict=True):
        if a["variant"] == "ties":
            continue  # how many values are exactly equal is a matter of rounding
        expected = None if b["value"] is None else pytest.approx(b["value"], rel=1e-4, abs=1e-6)
        assert a["value"] == expected, a


def test_the_batch_halves_itself_when_memory_runs_out_and_stays_halved(run: Run) -> None:
    Hungry.sizes.clear()
    results, _ = run(method="doubles:Hungry", limit=9, batch_size=8)
    assert Hungry.sizes == [8, 4, 2, 2, 2, 2, 1]
    assert value(results, "outside_inside", "all")["n"] == 9


def test_memory_that_holds_no_single_image_ends_the_run_in_one_line(run: Run) -> None:
    with pytest.raises(BadConfig, match="out of memory with one image"):
        run(method="doubles:Hungry(fits=0)", limit=2)


def test_images_that_cannot_be_read_are_counted_and_the_rest_goes_on(run: Run) -> None:
    data = "doubles:Squares(count=34, unreadable_every=3)"
    results, _ = run(dataset=data)
    again, computed = run(dataset=data)
    found = value(results, "outside_inside", "all")
    assert (found["n"], found["n_dropped"]) == (23, 11)
    assert (again, computed) == (results, 0)


def test_a_block_without_a_readable_image_is_recorded_as_done(run: Run) -> None:
    results, _ = run(dataset="doubles:Squares(count=40, unreadable_every=1)", limit=1)
    assert value(results, "outside_inside", "all")["n"] == 1
    data = "doubles:Squares(count=2, unreadable_every=2)"
    results, _ = run(dataset=data)
    assert (value(results, "segmentation", "miou@zero")["n"], run(dataset=data)[1]) == (1, 0)


def test_strict_ends_the_run_at_the_first_unreadable_image(run: Run) -> None:
    with pytest.raises(BadData, match=r"square-1\.png"):
        run(dataset="doubles:Squares(unreadable_every=3)", strict=True)
    with pytest.raises(BadData, match="converted from grey: square-0"):
        run(dataset="doubles:Squares(grey_every=4)", limit=9, strict=True)


def test_relevance_that_is_not_finite_is_counted_and_never_averaged(run: Run) -> None:
    results, _ = run(method="doubles:Broken", metric="outside_inside,segmentation,perturbation(steps=2)", limit=12)
    broken = round(value(results, "guards", "non_finite")["value"] * 12 / 100)
    assert 0 < broken < 12
    for metric, variant in (("outside_inside", "all"), ("segmentation", "miou@mean"), ("guards", "ties")):
        found = value(results, metric, variant)
        assert (found["n"], found["n_dropped"]) == (12 - broken, broken)
        assert np.isfinite(found["value"])


def test_maps_are_saved_raw_with_target_and_logit(run: Run, tmp_path: Path) -> None:
    run(limit=2, save_maps=tmp_path / "maps")
    (folder,) = (tmp_path / "maps").iterdir()
    assert folder.name.startswith("doubles%3ASquares.doubles%3Atiny.doubles%3ACounting.")
    saved = np.load(folder / "square-1.npz")
    assert saved["relevance"].shape == (3, 224, 224)
    assert saved["relevance"].dtype == np.float32
    assert np.isfinite(saved["logit"])
    assert 0 <= saved["target"] < 1000
    assert run(limit=2, save_maps=tmp_path / "maps")[1] == 0
    (folder / "square-0.npz").unlink()
    assert run(limit=2, save_maps=tmp_path / "maps")[1] == 2


def test_what_is_random_about_images_is_drawn_by_the_seed_of_the_run(run: Run, tmp_path: Path) -> None:
    first, again, other = (
        value(run(method="random", limit=2, seed=seed, out=tmp_path / folder)[0], "outside_inside", "all")["value"]
        for folder, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again != other


def test_maps_of_another_seed_or_code_are_others(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = tmp_path / "maps"
    run(limit=1, save_maps=maps)
    run(limit=1, save_maps=maps, seed=1)
    monkeypatch.setattr("rapbench.run.plan.code_digest", lambda *_: "changed")
    run(limit=1, save_maps=maps, out=tmp_path / "afresh")
    assert len(list(maps.glob("*/square-0.npz"))) == 3


def test_each_map_has_the_logit_of_its_own_image(run: Run, tmp_path: Path) -> None:
    run(limit=3, save_maps=tmp_path / "maps")
    logits = {float(np.load(file)["logit"]) for file in (tmp_path / "maps").glob("*/*.npz")}
    assert len(logits) == 3


def test_a_map_whose_image_cannot_be_read_is_not_waited_for(run: Run, tmp_path: Path) -> None:
    options = {"dataset": "doubles:Squares(count=3, unreadable_every=2)", "save_maps": tmp_path / "maps"}
    assert run(**options)[1] == 3
    assert run(**options)[1] == 0


@pytest.mark.parametrize("name", ["../../away", "a\nb", "..", "/etc/x"])
def test_a_map_stays_in_its_folder_whatever_its_image_is_called(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("doubles.Squares.ids", (name,))
    run(limit=1, dataset="doubles:Squares(count=1)", save_maps=tmp_path / "maps")
    (file,) = (tmp_path / "maps").rglob("*.npz")
    assert file.resolve().parent.parent == tmp_path / "maps"


def test_a_damaged_or_edited_spec_is_restored(run: Run, tmp_path: Path) -> None:
    whole, _ = run(limit=40)
    spec = next((tmp_path / "runs").glob("*outside_inside*/spec.json"))
    good = spec.read_bytes()
    for content in (good.replace(b'"seed": 0', b'"seed": 1'), b"{", b"[" * 100_000, b"\xff"):
        spec.write_bytes(content)
        next(spec.parent.glob("*.parquet")).unlink()
        assert run(limit=40)[0] == whole
        assert spec.read_bytes() == good


def test_an_image_that_can_be_read_again_is_tried_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Squares.__getitem__

    def faulty(self: Squares, index: int) -> object:
        if index == 5:
            raise BadData("missing image", "away")
        return read(self, index)

    monkeypatch.setattr(Squares, "__getitem__", faulty)
    assert value(run(limit=40, seed=1)[0], "outside_inside", "all")["n"] == 39
    assert run(limit=40, seed=1)[1] == 0, "it is still away"
    monkeypatch.undo()
    again, computed = run(limit=40, seed=1)
    assert (value(again, "outside_inside", "all")["n"], computed) == (40, 32)
    assert run(limit=40, seed=1) == (again, 0)


def test_a_torn_file_is_computed_again(run: Run, tmp_path: Path) -> None:
    whole, _ = run()
    file = min((tmp_path / "runs").glob("*segmentation*/*.parquet"))
    file.write_bytes(file.read_bytes()[:-20])
    again, computed = run()
    assert computed == 32
    assert whole == again


def test_a_results_folder_that_cannot_be_written_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadConfig, match=r"cannot write .*file"):
        run(out=tmp_path / "file", limit=1)


def test_a_full_disk_ends_the_run_in_one_line_and_leaves_no_torn_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run(limit=40, out=tmp_path / "whole")
    synced = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadConfig, match="No space left on device; what is done is kept"):
        run(limit=40)
    monkeypatch.undo()
    assert {path.suffix for path in (tmp_path / "runs").glob("*/*")} <= {".json", ".parquet"}
    assert run(limit=40)[0] == whole


def test_outside_inside_drops_nothing_silently(run: Run) -> None:
    results, _ = run(method="all_background", limit=3)
    found = value(results, "outside_inside", "all")
    assert (found["value"], found["n"], found["n_dropped"]) == (None, 0, 3)
    assert OutsideInside().variants(signed=True)["all"].direction == found["direction"]


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    def command(out: Path) -> list[str]:
        options = {
            "model": "doubles:tiny",
            "weights": "random",
            "dataset": "doubles:Squares(count=320)",
            "method": "rap,random",
            "device": "cpu",
            "out": str(out),
            "metric": "outside_inside,segmentation",
        }
        flags = [part for key, text in options.items() for part in (f"--{key}", text)]
        return [sys.executable, "-m", "rapbench", "run", *flags, "--json"]

    def finished(out: Path) -> str:
        done = subprocess.run(command(out), capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
        return json.dumps(json.loads(done.stdout)["results"])

    undisturbed, draws, partial = finished(tmp_path / "a"), random.Random(0), 0
    for _ in range(4):
        killed = subprocess.Popen(
            command(tmp_path / "b"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1]
        )
        before = num_files(tmp_path / "b")
        while num_files(tmp_path / "b") == before and killed.poll() is None:
            time.sleep(0.01)
        time.sleep(draws.uniform(0, 0.3))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        partial += 0 < num_files(tmp_path / "b") < num_files(tmp_path / "a")
    assert partial, "no kill fell into the middle of the work"
    assert finished(tmp_path / "b") == undisturbed
    for path in (tmp_path / "a").rglob("*.*"):
        if path.is_file():
            assert (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes() == path.read_bytes()


def num_files(folder: Path) -> int:
    return len(list(folder.glob("*/*.parquet")))

"""Several processes on one machine, each doing a shard of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import torch

from rapbench.workers import RAPBENCH


def exit_codes(count: int, arguments: Sequence[str], device: torch.device) -> list[int]:
    """How `rapbench` ended with the arguments and `--shard k/count`, run for k = 0..count - 1 at once.

    On a machine with GPUs each process sees one; on a CPU each gets its share of the cores.
    """
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for k in range(count):
            command = [*RAPBENCH, *arguments, "--shard", f"{k}/{count}"]
            environment = {**os.environ, **_resources(k, count, device)}
            processes.append(subprocess.Popen(command, env=environment, stdout=sys.stderr))  # noqa: S603 (no shell)
        return [process.wait() for process in processes]
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def _resources(k: int, count: int, device: torch.device) -> dict[str, str]:
    if device.type != "cuda":
        return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    devices = [v for v in visible if v] or [str(n) for n in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": devices[k % len(devices)]}

"""What a run was asked for, and the device that it means."""

from __future__ import annotations

import torch

from rapbench.doctor.finding import Finding, shown
from rapbench.run import resolve
from rapbench.run.spec import RunSpec


def settings(spec: RunSpec) -> list[Finding]:
    """Whether methods, metrics, data set and network go by these names and parameters and fit each other."""
    count = len(resolve.settings(spec).methods)
    message = f"{count} method{'s'[: count > 1]} on {spec.dataset}, {spec.model} ({spec.weights})"
    return [Finding(level="ok", subject="settings", message=message)]


def device(spec: RunSpec) -> list[Finding]:
    """Whether this machine has the device."""
    message = f"cpu, {torch.get_num_threads()} threads"
    if resolve.device(spec).type == "cuda":
        free, total = torch.cuda.mem_get_info()
        message = f"cuda: {torch.cuda.get_device_name()}, {shown(free)} of {shown(total)} free"
    return [Finding(level="ok", subject="device", message=message)]

"""Memory kept for the next layer."""

import platform
import resource

import torch

from rapbench.core.allocator import keep_freed_memory


def test_glibc_accepts_the_settings_and_reuses_large_buffers() -> None:
    accepted = keep_freed_memory()
    assert accepted == (platform.libc_ver()[0] == "glibc")
    if not accepted:
        return
    size = 2**24
    for _ in range(10):  # until the reserve has been touched once
        torch.empty(size).fill_(1)
    assert min(_faults(size) for _ in range(5)) < size * 4 / 4096 / 10


def _faults(size: int) -> int:
    """Pages that the system has to hand out for one more buffer; what else the process does may add some."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(size).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

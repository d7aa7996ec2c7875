"""Memory kept for the next layer."""

import platform
import subprocess
import sys

import pytest

from rapbench.core.allocator import keep_freed_memory

FAULTS = """
import resource
import torch
from rapbench.core.allocator import keep_freed_memory

keep_freed_memory()
size = 2**24
for _ in range(10):  # until the reserve has been touched once
    torch.empty(size).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.empty(size).fill_(1)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (10 * size * 4 / resource.getpagesize()))
"""
"""Pages that the system hands out for ten more buffers, as a share of theirs: in a process with nothing else in it."""


def test_it_says_whether_the_c_library_accepts_the_settings() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's settings")
def test_large_buffers_are_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.1

"""The C library's allocator, told to keep the memory that the next layer will ask for again."""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of glibc's mallopt."""


def keep_freed_memory() -> bool:
    """Stops glibc from returning freed buffers to the system; False where there is another C library.

    Activations of some 100 MB are otherwise mapped, zeroed page by page and unmapped again at every operation, which
    costs a CPU as much time as the arithmetic on them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**28))
    accepted = [mallopt(parameter, value) for parameter, value in settings]
    return all(accepted)

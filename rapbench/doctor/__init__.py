"""Checks before hours are spent: libraries, settings, device, memory, disk, data, weights, and what an image costs."""

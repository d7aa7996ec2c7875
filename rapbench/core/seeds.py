"""Seeds per image, so that no number depends on batch size, order or how a run is shared."""

import hashlib


def image_seed(run_seed: int, image_id: str) -> int:
    """Seed of one image's random draws: 63 bits of SHA-256 over the run's seed and the image's id."""
    digest = hashlib.sha256(f"{run_seed}:{image_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

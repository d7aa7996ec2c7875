"""Seeds per image."""

from rapbench.core.seeds import image_seed


def test_a_seed_depends_on_run_and_image_alone_and_fits_in_63_bits() -> None:
    seeds = {image_seed(run, f"image-{n}") for run in (0, 1) for n in range(100)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert image_seed(0, "val-000001") == image_seed(0, "val-000001") != image_seed(0, "val-000002")

"""All that runs need, looked at once each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rapbench.doctor.finding import Finding, Level, checked
from rapbench.doctor.machine import disk, libraries, memory
from rapbench.run.spec import RunSpec


def examined(specs: Sequence[RunSpec], *, required: bool = True) -> Iterator[Finding]:
    """All that the runs need; a finding comes as soon as it is made.

    Args:
        specs: the runs.
        required: whether they are meant to run as they are; if not, data and weights that are not there are a warning.
    """
    yield (found := libraries())
    if found.level == "FAIL":
        return
    from rapbench.doctor.settings import device, settings  # these import torch

    of_settings = {spec: checked("settings", settings, spec)[0] for spec in specs}
    yield from dict.fromkeys(found for found in of_settings.values() if required or found.level == "FAIL")
    sound = [spec for spec, found in of_settings.items() if found.level != "FAIL"]
    yield from dict.fromkeys(found for spec in sound for found in checked("device", device, spec))
    yield memory()
    for out in dict.fromkeys(spec.out for spec in specs):
        yield from checked("disk", disk, out)
    yield from _data(sound, required=required)
    yield from _networks(sound, required=required)


def _data(specs: Sequence[RunSpec], *, required: bool) -> Iterator[Finding]:
    """Each data set, as large as a network wants it where the run is meant as it is."""
    from rapbench.doctor.data import data
    from rapbench.run import resolve

    sizes = [resolve.settings(spec).size if required else None for spec in specs]
    wanted = ((spec.dataset, spec.data_root, size) for spec, size in zip(specs, sizes, strict=True))
    level: Level = "FAIL" if required else "warn"
    for name, root, size in dict.fromkeys(wanted):
        yield from checked(f"data {name}", data, name, root, size, level=level)


def _networks(specs: Sequence[RunSpec], *, required: bool) -> Iterator[Finding]:
    """Each network, once for all runs that use it in the same way."""
    from rapbench.doctor.network import network
    from rapbench.run.resolve import weights_name

    different: dict[object, RunSpec] = {}
    for spec in specs:
        alike = (spec.model, spec.weights, spec.seed, spec.device, spec.select, spec.target, weights_name(spec))
        different.setdefault(alike, spec)
    for spec in different.values():
        level: Level = "warn" if spec.weights == "auto" and not required else "FAIL"
        yield from checked(f"model {spec.model}", network, spec, level=level)

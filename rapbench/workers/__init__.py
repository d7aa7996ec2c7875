"""Many workers at one run: what one of them does, processes on this machine, and the schedulers of clusters.

A *task* is one method on one block of images: what is claimed, fails and is tried again. A *shard* is the i-th of N
shares of a run's tasks. A *job* is an array of shards that a scheduler has queued. This file names the schedulers and
imports none.
"""

import sys

from rapbench.core.catalogue import Catalogue, Entry

RAPBENCH = (sys.executable, "-P", "-m", "rapbench")
"""The command line of another process; a module in the folder that it starts in stands in for no library."""

SCHEDULERS = Catalogue(
    "scheduler",
    {"slurm": Entry("rapbench.workers.slurm:Slurm", "job arrays of a Slurm cluster, by its own commands")},
)

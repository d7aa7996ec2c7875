"""A scheduler in one file, as code from outside: the shards of a job are processes on this machine."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

from rapbench.core.errors import BadConfig
from rapbench.workers.scheduler import Job


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Starts all shards at once and keeps them by the process that leads them."""

    started: ClassVar[dict[str, list[subprocess.Popen[bytes]]]] = {}

    most: int = 8

    def examine(self, job: Job) -> None:
        if job.shards > self.most:
            raise BadConfig(f"{job.shards} shards are more than {self.most} processes")

    def script(self, job: Job) -> str:
        return "".join(f"{' '.join(job.command)} --shard {k}/{job.shards} &\n" for k in range(job.shards)) + "wait\n"

    def submit(self, job: Job) -> str:
        name = f"here-{len(self.started)}"
        self.started[name] = []
        for k in range(job.shards):
            with (job.folder / f"{name}_{k}.log").open("wb") as log:
                shard = [*job.command, "--shard", f"{k}/{job.shards}"]
                self.started[name].append(subprocess.Popen(shard, stdout=log, stderr=log))
        return name

    def states(self, jobs: Collection[str]) -> Mapping[str, Counter[str]]:
        words = {None: "running", 0: "done"}
        return {job: Counter(words.get(p.poll(), "failed") for p in self.started[job]) for job in jobs}

    def cancel(self, jobs: Collection[str]) -> list[str]:
        active = [job for job in jobs if self.states([job])[job]["running"]]
        for process in (process for job in active for process in self.started[job]):
            process.terminate()
            process.wait()
        return active

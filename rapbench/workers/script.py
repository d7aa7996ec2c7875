"""The script of a job array, for Slurm: bash and Slurm's own commands, which every node has."""

from __future__ import annotations

import shlex

from rapbench.core.errors import BadConfig
from rapbench.workers.jobs import note
from rapbench.workers.scheduler import Job, Resources

WARNING_SECONDS = 90
"""How long before a time limit Slurm says so; short limits leave a quarter of their time."""
_MOST_TIME_LIMITS = 100
"""How often one shard goes on after its time limit: an end to one that is too short for any progress."""


def script(job: Job) -> str:
    """A job as text for sbatch.

    Raises:
        BadConfig: a time that cannot be read, or something that Slurm cannot be told.
    """
    body = _BODY.format(
        folder=shlex.quote(str(job.folder)),
        note=shlex.quote(note(job)),
        setup="".join(f"{line}\n" for line in job.resources.setup),
        command=shlex.join(job.command),
        shards=job.shards,
        retries=job.resources.retries,
        most_time_limits=_MOST_TIME_LIMITS,
    )
    return "\n".join(["#!/bin/bash", *_flags(job, job.resources), body])


def _flags(job: Job, resources: Resources) -> list[str]:
    options = {
        "job-name": "rapbench",
        "array": f"0-{job.shards - 1}%{resources.max_parallel}",
        "partition": resources.partition,
        "gpus-per-node": resources.gpus or None,
        "cpus-per-task": resources.cpus,
        "mem": resources.memory,
        "time": resources.time,
        "signal": f"B:USR2@{min(WARNING_SECONDS, resources.seconds // 4)}",
        "output": f"{str(job.folder).replace('%', '%%')}/%A_%a.log",
        "open-mode": "append",
    }
    given = [_flag(key, str(value)) for key, value in options.items() if value is not None]
    return [*given, "#SBATCH --requeue"]


def _flag(key: str, value: str) -> str:
    if any(character in value for character in "\n\r\\"):
        raise BadConfig(f"{key} {value!r}: Slurm takes no line breaks and no backslashes; choose another name")
    return f"#SBATCH --{key}={shlex.quote(value)}"


_BODY = """
jobs={folder}
shard="${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
failures="$jobs/$shard.failures"
[ -e "$jobs/$SLURM_ARRAY_JOB_ID.json" ] || printf '%s\\n' {note} >"$jobs/$SLURM_ARRAY_JOB_ID.json"

# Ends the work, which lets go of what it has claimed and keeps what is done.
stop() {{
    if [ -n "$!" ]; then # set with the start itself, before a signal can come between
        kill -TERM "$!"
        wait "$!"
    fi
}}

again() {{
    trap '' TERM # which a job that requeues itself is sent at once
    scontrol requeue "$shard"
}}

# The time limit is near.
go_on() {{
    stop
    if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {most_time_limits} ]; then again; fi
    exit 1
}}

# Slurm is ending the job. Where it still counts as running it is preempted; otherwise Slurm knows what comes next.
give_way() {{
    stop
    if [ "$(squeue --noheader --jobs="$shard" --format=%T)" = RUNNING ]; then again; fi
    exit 143
}}

# A failed shard is run again on another node, where the partition has one on which it has not failed.
elsewhere() {{
    echo "${{SLURMD_NODENAME:-$(hostname)}}" >>"$failures"
    if [ "$(wc -l <"$failures")" -gt {retries} ]; then return; fi
    again
    if sinfo --noheader --Node --partition="$SLURM_JOB_PARTITION" --format=%N | grep -qvxFf "$failures"; then
        scontrol update JobId="$shard" ExcNodeList="$(sort -u "$failures" | paste -sd,)"
    fi
}}

trap go_on USR2
trap give_way TERM
{setup}{command} --shard "$SLURM_ARRAY_TASK_ID/{shards}" &
wait "$!"
code=$?
case $code in
    0) ;;
    130 | 143) give_way ;; # the work was told first
    *) elsewhere ;;
esac
exit $code
"""

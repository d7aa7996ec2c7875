#!/usr/bin/env bash
# A Slurm on this machine alone, for tests: scripts/slurm_localhost.sh {start|stop|status}, as root.
#
# Installs munge, slurmctld and slurmd from the distribution's packages and runs the daemons directly, so that it works
# in a container without systemd. This machine plays SLURM_LOCALHOST_NODES nodes (two), each with every CPU (two at
# least) and one GPU that is only counted. Partition `local` is the default; jobs in `urgent` preempt those in `local`.
# State lies in SLURM_LOCALHOST_STATE, except for /etc/slurm/{slurm,gres}.conf, where Slurm's commands look; a
# configuration there that is not ours is left alone.
set -euo pipefail
state=${SLURM_LOCALHOST_STATE:-/run/slurm-localhost}
nodes=${SLURM_LOCALHOST_NODES:-2}
mark="# written by slurm_localhost.sh"
seconds_to_start=30

fail() {
    printf 'slurm_localhost.sh: %s\n' "$1" >&2
    exit 1
}

install_packages() {
    if command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null &&
        command -v sbatch >/dev/null; then
        return
    fi
    export DEBIAN_FRONTEND=noninteractive
    # The packages' own services would start daemons that this script starts its own way.
    local policy=/usr/sbin/policy-rc.d added=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
        added=$policy
    fi
    local installed=no
    apt-get update -qq && apt-get install -y -qq --no-install-recommends munge slurmctld slurmd slurm-client >/dev/null &&
        installed=yes
    rm -f "$added"
    [ $installed = yes ] || fail "the packages munge, slurmctld, slurmd and slurm-client cannot be installed"
}

ours() {
    [ ! -e "/etc/slurm/$1" ] || grep -qF "$mark" "/etc/slurm/$1"
}

configure() {
    local host cpus memory names
    host=$(hostname -s)
    cpus=$(($(nproc) < 2 ? 2 : $(nproc)))
    memory=$(($(awk '/^MemTotal/ {print $2}' /proc/meminfo) / 1024))
    names="node[1-$nodes]"
    mkdir -p /etc/slurm "$state/controller"
    chmod 755 "$state"
    if [ ! -s "$state/munge.key" ]; then
        (umask 077 && head -c 128 /dev/urandom >"$state/munge.key")
    fi
    cat >/etc/slurm/gres.conf <<CONF
$mark
NodeName=$names Name=gpu File=/dev/null
CONF
    # cred_expire is also how long a requeued job waits; the default of two minutes is for slow nodes.
    cat >/etc/slurm/slurm.conf <<CONF
$mark
ClusterName=localhost
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$state/munge.socket,cred_expire=5
StateSaveLocation=$state/controller
SlurmdSpoolDir=$state/%n
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/%n.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MessageTimeout=5
KillWait=5
OverTimeLimit=0
MinJobAge=600
GresTypes=gpu
NodeName=$names NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-$((17000 + nodes))] \
    CPUs=$cpus RealMemory=$memory Gres=gpu:1 State=UNKNOWN
PartitionName=local Nodes=$names Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=5
PartitionName=urgent Nodes=$names MaxTime=INFINITE State=UP PriorityTier=2
CONF
}

signal() {
    kill "-$1" "$(cat "$state/$2.pid" 2>/dev/null)" 2>/dev/null # which may just have ended
}

alive() {
    [ -s "$state/$1.pid" ] && signal 0 "$1"
}

daemons() {
    seq --format='node%g' "$nodes"
    printf 'slurmctld\nmunged\n'
}

running() {
    local daemon
    for daemon in $(daemons); do
        alive "$daemon" || return 1
    done
    sinfo >/dev/null 2>&1
}

idle() {
    [ "$(sinfo --noheader --partition=local --format=%T 2>/dev/null)" = idle ]
}

start() {
    [ "$(id -u)" = 0 ] || fail "needs root, to install and to start jobs"
    ours slurm.conf && ours gres.conf || fail "/etc/slurm holds a configuration of another Slurm; left as it is"
    if running; then
        status
        return
    fi
    install_packages
    stop
    configure
    munged --socket="$state/munge.socket" --key-file="$state/munge.key" --pid-file="$state/munged.pid" \
        --log-file="$state/munged.log" --seed-file="$state/munge.seed"
    slurmctld -c
    for name in $(daemons | grep node); do
        mkdir -p "$state/$name"
        slurmd -N "$name"
    done
    for _ in $(seq $((seconds_to_start * 5))); do
        if idle; then
            status
            return
        fi
        sleep 0.2
    done
    tail -n 5 "$state"/slurmctld.log "$state"/node*.log >&2
    fail "the nodes are not idle after $seconds_to_start s"
}

end_jobs() {
    local jobs
    jobs=$(squeue --noheader --format=%A 2>/dev/null | sort -u)
    if [ -n "$jobs" ]; then
        # shellcheck disable=SC2086 # one word a job
        scancel $jobs 2>/dev/null || true
        for _ in $(seq 50); do
            [ -n "$(squeue --noheader 2>/dev/null)" ] || break
            sleep 0.2
        done
    fi
}

stop() {
    local daemon
    if running; then end_jobs; fi
    for daemon in $(daemons); do
        if alive "$daemon"; then
            signal TERM "$daemon" || true
            for _ in $(seq 50); do
                alive "$daemon" || break
                sleep 0.2
            done
            if alive "$daemon"; then signal KILL "$daemon" || true; fi
        fi
        rm -f "$state/$daemon.pid"
    done
    for file in slurm.conf gres.conf; do
        if ours $file; then rm -f "/etc/slurm/$file"; fi
    done
}

status() {
    sinfo --format='%P %N %c %G %T' 2>/dev/null || fail "not running"
}

case ${1:-} in
    start | stop | status) "$1" ;;
    *) fail "usage: scripts/slurm_localhost.sh {start|stop|status}" ;;
esac

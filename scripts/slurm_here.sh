#!/bin/bash
# A real Slurm on this machine: one controller and one node with its processors, as root, from Debian's packages
# slurm-wlm and munge. Configuration, state and logs lie in a folder of its own, so that nothing of the machine's own
# Slurm is touched; whoever uses it sets SLURM_CONF as `start` prints it.
#
#   scripts/slurm_here.sh start DIR     prints SLURM_CONF=FILE
#   scripts/slurm_here.sh restart DIR   the controller alone, as after a crash: it is killed and reads its state again
#   scripts/slurm_here.sh stop DIR
set -euo pipefail

what=${1:?start, restart or stop} dir=$(mkdir -p "${2:?a folder}" && cd "$2" && pwd)
PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF=$dir/slurm.conf
port=$((20000 + $(printf %s "$dir" | cksum | cut -d' ' -f1) % 20000))

fail() { echo "slurm_here: $*" >&2; exit 1; }

wait_for() { # seconds, command...
  local tries=$(($1 * 10)); shift
  until "$@" >/dev/null 2>&1; do
    ((tries-- > 0)) || return 1
    sleep 0.1
  done
}

idle() { sinfo --noheader --format=%T 2>/dev/null | grep -Eq 'idle|mixed|allocated'; }

end() { # a daemon, by the process that it wrote down
  local file=$dir/$1.pid pid
  [ -s "$file" ] || return 0
  pid=$(cat "$file")
  kill "${2:--TERM}" "$pid" 2>/dev/null || return 0
  wait_for 10 not_running "$pid" || kill -KILL "$pid" 2>/dev/null || true
}

not_running() { ! kill -0 "$1" 2>/dev/null; }

controller() { slurmctld -f "$SLURM_CONF" -L "$dir/slurmctld.log"; }

case $what in
start)
  [ "$(id -u)" = 0 ] || fail "it has to be root"
  for one in slurmctld slurmd munged mungekey sbatch; do
    command -v $one >/dev/null || fail "$one is not installed: apt-get install slurm-wlm munge"
  done
  mkdir -p "$dir/state" "$dir/node"
  host=$(hostname -s)
  # munged takes neither a key nor a socket whose folders others may write to
  munge=${TMPDIR:-/tmp}/slurm-here-$port
  install -d -o munge -g munge -m 0755 "$munge"
  echo "$munge" >"$dir/munge.folder"
  mungekey --create --force --keyfile "$munge/key"
  chown munge "$munge/key"
  runuser -u munge -- munged --force --key-file="$munge/key" --socket="$munge/socket" --pid-file="$munge/pid" \
    --log-file="$munge/log" --seed-file="$munge/seed"
  cat >"$SLURM_CONF" <<END
ClusterName=here
SlurmctldHost=$host
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$munge/socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/node
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
KillWait=2
NodeName=$host CPUs=$(nproc) RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
  controller
  slurmd -f "$SLURM_CONF" -L "$dir/slurmd.log"
  wait_for 20 idle || fail "the node did not become idle: $(tail -n 3 "$dir/slurmctld.log" "$dir/slurmd.log" | tr '\n' ' ')"
  echo "SLURM_CONF=$SLURM_CONF"
  ;;
restart)
  end slurmctld -KILL
  controller
  wait_for 20 idle || fail "the controller did not come back"
  ;;
stop)
  end slurmd
  end slurmctld
  if [ -s "$dir/munge.folder" ]; then
    munge=$(cat "$dir/munge.folder")
    kill "$(cat "$munge/pid")" 2>/dev/null || true
    rm -rf "$munge"
  fi
  ;;
*) fail "start, restart or stop, not $what" ;;
esac

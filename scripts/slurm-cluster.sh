#!/bin/bash
# A Slurm cluster on this machine, to be thrown away: without systemd, cgroups or anything in /etc. As root.
#
#   scripts/slurm-cluster.sh up DIR [NODES]     starts it; DIR is made, and holds all of it
#   DIR/on HOST COMMAND ...                     runs a command as on `ctl` or `node0` ...
#   scripts/slurm-cluster.sh down DIR           ends its jobs and daemons
#
# Where network namespaces can be made, each node has its own address, host name and /etc/hosts, and none reaches beyond the others (DIR/mode says
# netns). Otherwise all daemons share this machine's loopback interface on ports of their own (DIR/mode says ports), and node names don't resolve.
set -u

[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 1; }
action=$1
mkdir -p "$(dirname "$2")"
folder=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
nodes=${3:-4}
last=$((nodes - 1))
prefix=moe$(printf '%s' "$folder" | cksum | cut -c 1-5) # of the namespaces; an interface's name has 15 characters at most

alive() { kill -0 "$1" 2> /dev/null; }

# Waits up to TENTHS for a process to end.
gone() {
  for _ in $(seq "$2"); do alive "$1" || return 0; sleep 0.1; done
  ! alive "$1"
}

# A daemon in a session of its own, its process id on record.
start() {
  local name=$1
  shift
  setsid "$@" > "$folder/$name.out" 2>&1 < /dev/null &
  echo "$name $!" >> "$folder/pids"
}

# --- Network ---------------------------------------------------------------------------------------------------------------------
add_host() { # NAME ADDRESS
  ip netns add "$prefix-$1" &&
    ip -n "$prefix-sw" link add "$prefix-$1" type veth peer name eth0 netns "$prefix-$1" &&
    ip -n "$prefix-sw" link set "$prefix-$1" master br0 up &&
    ip -n "$prefix-$1" addr add "$2/24" dev eth0 &&
    ip -n "$prefix-$1" link set eth0 up &&
    ip -n "$prefix-$1" link set lo up
}

add_network() {
  command -v ip > /dev/null && ip netns add "$prefix-sw" && ip -n "$prefix-sw" link add br0 type bridge && ip -n "$prefix-sw" link set br0 up &&
    add_host ctl 10.77.0.254 || return 1
  for i in $(seq 0 $last); do add_host "node$i" "10.77.0.$((i + 1))" || return 1; done
}

remove_network() {
  command -v ip > /dev/null || return 0
  for name in $(ip netns list 2> /dev/null | awk '{print $1}' | grep "^$prefix-"); do
    for process in $(ip netns pids "$name" 2> /dev/null); do kill -KILL "$process" 2> /dev/null; done
    ip netns del "$name"
  done
}

# A block of ports that nobody listens on, below those that Linux gives out.
free_ports() {
  local base=20000
  for _ in $(seq 50); do
    base=$((20000 + RANDOM % 180 * 64))
    awk -v low=$base 'NR > 1 { split($2, at, ":"); port = 0; for (i = 1; i <= length(at[2]); i++) port = port * 16 + index("0123456789ABCDEF", substr(at[2], i, 1)) - 1
      if (port >= low && port < low + 64) { found = 1; exit } } END { exit !found }' /proc/net/tcp || break
  done
  echo "$base"
}

# --- Up --------------------------------------------------------------------------------------------------------------------------
write_files() {
  local base=$1 controller node_lines
  if [ "$(cat "$folder/mode")" = netns ]; then
    controller="ctl(10.77.0.254)"
    node_lines=$(for i in $(seq 0 $last); do echo "NodeName=node$i NodeAddr=10.77.0.$((i + 1)) Port=$((base + 2)) CPUs=4 RealMemory=4000 State=UNKNOWN"; done)
    { echo "127.0.0.1 localhost"; echo "10.77.0.254 ctl"; for i in $(seq 0 $last); do echo "10.77.0.$((i + 1)) node$i"; done; } > "$folder/hosts"
    # `ip netns exec` would mount a /sys without /sys/fs/cgroup, and slurmd does not start without that.
    cat > "$folder/on" << END
#!/bin/bash
host=\$1; shift
exec nsenter --net=/run/netns/$prefix-\$host unshare --uts --mount bash -c 'mount --bind "$folder/hosts" /etc/hosts; hostname "\$0"; export SLURM_CONF="$folder/slurm.conf"; exec "\$@"' "\$host" "\$@"
END
  else
    controller="$(hostname)(127.0.0.1)"
    node_lines="NodeName=node[0-$last] NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=[$((base + 10))-$((base + 10 + last))] CPUs=4 RealMemory=4000 State=UNKNOWN"
    printf '#!/bin/bash\nshift\nexport SLURM_CONF="%s"\nexec "$@"\n' "$folder/slurm.conf" > "$folder/on"
  fi
  chmod +x "$folder/on"

  (umask 077 && head -c 128 /dev/urandom > "$folder/munge.key")
  # TmpFS: several slurmd on one machine would make the same folder for PMIx. config_overrides: a node may claim more cores than there are.
  cat > "$folder/slurm.conf" << END
ClusterName=moe
SlurmctldHost=$controller
SlurmctldPort=$((base + 1))
SlurmdPort=$((base + 2))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.sock
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmdLogFile=$folder/slurmd.%n.log
SlurmdSpoolDir=$folder/spool.%n
TmpFS=$folder/tmp.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=1
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
InactiveLimit=0
KillWait=20
MinJobAge=600
MessageTimeout=10
MailProg=/bin/true
$node_lines
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
}

up() {
  [ "$(id -u)" = 0 ] || { echo "slurm-cluster: slurmd needs root" >&2; return 2; }
  for program in munged slurmctld slurmd; do
    [ -n "$(PATH=$PATH:/usr/sbin command -v $program)" ] || { echo "slurm-cluster: $program is not installed" >&2; return 2; }
  done
  [ ! -e "$folder/pids" ] || down
  rm -rf "$folder"
  mkdir -p "$folder/state"
  : > "$folder/pids"
  if add_network 2> /dev/null; then echo netns > "$folder/mode"; else remove_network; echo ports > "$folder/mode"; fi
  write_files "$(free_ports)"

  start munged /usr/sbin/munged -F --socket="$folder/munge.sock" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munged.seed" --num-threads=4
  for _ in $(seq 100); do [ -S "$folder/munge.sock" ] && break; sleep 0.05; done
  start slurmctld "$folder/on" ctl /usr/sbin/slurmctld -D -f "$folder/slurm.conf"
  for i in $(seq 0 $last); do
    mkdir -p "$folder/spool.node$i" "$folder/tmp.node$i"
    start "node$i" "$folder/on" "node$i" /usr/sbin/slurmd -D -N "node$i" -f "$folder/slurm.conf"
  done
  for _ in $(seq 200); do
    [ "$("$folder/on" ctl timeout 5 sinfo -h -N -o %T 2> /dev/null | grep -cx idle)" = "$nodes" ] && return 0
    sleep 0.1
  done
  echo "slurm-cluster: not all of $nodes nodes came up; the logs are in $folder" >&2
  tail -n 3 "$folder"/*.out "$folder"/*.log >&2
  return 2
}

# --- Down ------------------------------------------------------------------------------------------------------------------------
down() {
  [ -e "$folder/pids" ] || { remove_network; return 0; }
  "$folder/on" ctl timeout 5 scancel --full --user=root > /dev/null 2>&1
  for _ in $(seq 20); do [ -z "$("$folder/on" ctl timeout 2 squeue -h 2> /dev/null)" ] && break; sleep 0.1; done
  "$folder/on" ctl timeout 5 scancel --full --signal=KILL --user=root > /dev/null 2>&1
  # The slurmds first, munged last. slurmctld would take four seconds to save a state that nobody needs.
  sort -k 1,1 "$folder/pids" | awk '$1 ~ /^node/ { print $2 } $1 == "slurmctld" { c = $2 } $1 == "munged" { m = $2 } END { print c; print m }' | while read -r process; do
    [ -n "$process" ] || continue
    kill -TERM "$process" 2> /dev/null
    gone "$process" 10 || kill -KILL "$process" 2> /dev/null
  done
  remove_network
  rm -f "$folder/pids"
}

case $action in
  up) up || { code=$?; down 2> /dev/null; exit $code; } ;;
  down) down ;;
  *) echo "slurm-cluster: '$action' is neither up nor down" >&2; exit 1 ;;
esac

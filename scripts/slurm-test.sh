#!/bin/bash
# A real Slurm on this machine runs the job script that `launch slurm` writes: the run is signalled, requeued, resumed and completed, and its losses
# must equal those of a run that nobody interrupted, to the last bit. Everything is taken down again, also after a failure or Ctrl-C.
#
#   scripts/slurm-test.sh            four nodes; a launcher a node (Gloo), and a task a rank (MPI through PMIx); then the nodes as a host list
#   scripts/slurm-test.sh --short    two nodes, a launcher a node
#   scripts/slurm-test.sh --install  also installs Slurm from Debian where it is missing, and says so first
set -u
cd "$(dirname "$0")/.." || exit

short=no install=no
for word in "$@"; do
  case $word in
    --short) short=yes ;;
    --install) install=yes ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 1 ;;
  esac
done

say() { printf 'slurm-test: %s\n' "$*"; }
die() { printf 'slurm-test: %s\n' "$*" >&2; exit 3; }

# --- 1. Slurm ---------------------------------------------------------------------------------------------------------------------
PATH=$PATH:/usr/sbin
missing=
for pair in slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client munged:munge ip:iproute2; do
  command -v "${pair%%:*}" > /dev/null || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ]; then
  [ "$install" = yes ] || { say "not run: missing$missing; make slurm-test installs them"; exit 2; }
  say "will install:$missing"
  [ "$(id -u)" = 0 ] || { say "not run: only root can install, and start slurmd" >&2; exit 2; }
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086
  { apt-get install -y --no-install-recommends $missing > /dev/null 2>&1 || { apt-get update -q > /dev/null && apt-get install -y --no-install-recommends $missing > /dev/null; }; } ||
    { say "the packages could not be installed: apt-get install$missing" >&2; exit 2; }
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/moe-slurm-XXXXXX")
chmod 755 "$work" # munged wants a way to its socket for all
cleanup() {
  code=$?
  trap - EXIT INT TERM HUP
  scripts/slurm-cluster.sh down "$work/cluster"
  if [ "$code" -ne 0 ] && [ -n "${KEEP:-}" ]; then say "kept: $work"; else rm -rf "$work"; fi
  exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

nodes=4
[ "$short" = no ] || nodes=2
scripts/slurm-cluster.sh up "$work/cluster" $nodes || exit 2
on() { "$work/cluster/on" "$@"; }
mode=$(cat "$work/cluster/mode")
say "Slurm $(on ctl sinfo --version | cut -d ' ' -f 2) with $nodes nodes on this machine ($mode)"
# Without network namespaces the nodes' names lead nowhere.
[ "$mode" = netns ] || export MOE_RDZV=127.0.0.1

# --- 2. What is trained -------------------------------------------------------------------------------------------------------------
launch=${MOE_LAUNCH:-$PWD/launch/bin/${CONFIGURATION:-Release}/net10.0/launch.dll}
[ -f "$launch" ] || die "there is no $launch; make setup builds it"
# Enough that the signal, which takes some tenths of a second, finds the run under way also on a fast machine.
steps=300
cat > "$work/tiny.yaml" << END
extends: $PWD/configs/quickstart.yaml
model:
  layers: 2
  width: 32
  sequence_length: 64
  moe:
    experts: 8
    expert_width: 32
parallel:
  threads: 1
train:
  steps: $steps
  micro_batch: 4
  log_every: 1
  eval_every: 0
  checkpoint_every: 1000
  sample_tokens: 0
END
# Step and loss of each row, as they stand in the file: bits, not roundings.
curve() { sed -n 's/.*"step":\([0-9]*\)[,}].*/\1 &/p' "$1/metrics.jsonl" | sed 's/^\([0-9]*\) .*"train\/loss":\([^,}]*\).*/\1 \2/'; }

job_field() { on ctl scontrol -o show job "$1" 2> /dev/null | tr ' ' '\n' | sed -n "s/^$2=//p" | head -n 1; }

# until_true SECONDS WHAT COMMAND ...
until_true() {
  local seconds=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@"; do
    [ $SECONDS -lt $end ] || { tail -n 40 "$work"/*.out 2> /dev/null >&2; die "waited $seconds s in vain for $what"; }
    sleep 0.2
  done
}
has_step() { [ -f "$1/metrics.jsonl" ] && [ "$(curve "$1" | wc -l)" -ge "$2" ]; }
is_requeued() {
  ! is_over "$1" || die "job $1 ended as $(job_field "$1" JobState) instead of being requeued; it had $steps steps to make"
  [ "$(job_field "$1" Restarts)" = 1 ]
}
# Slurm lets a requeued job wait for two minutes. Let go at once it fails: to slurmd, which counts in whole seconds, the second turn is the one that
# it has just ended.
is_running_again() { on ctl scontrol update JobId="$1" StartTime=now > /dev/null 2>&1; case $(job_field "$1" JobState) in PENDING | REQUEUED | "") return 1 ;; esac; }
is_over() { case $(job_field "$1" JobState) in COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL | OUT_OF_MEMORY) return 0 ;; *) return 1 ;; esac; }

# check FORM NODES RANKS-A-NODE BACKEND
check() {
  local form=$1 straight=$work/straight-$1 run=$work/$1 job state begin=$SECONDS
  say "$form: the run that nobody interrupts"
  dotnet exec "$launch" --config "$work/tiny.yaml" --nodes "$2" --procs-per-node "$3" --backend "$4" --run-dir "$straight" > "$work/straight-$form.out" 2>&1 ||
    { tail -n 20 "$work/straight-$form.out" >&2; die "$form: the uninterrupted run failed"; }

  job=$(on ctl dotnet exec "$launch" slurm submit --config "$work/tiny.yaml" --nodes "$2" --procs-per-node "$3" --backend "$4" --tasks "$form" \
    --time 00:10:00 --job-name "$form" --output "$work/%x.out" --run-dir "$run" | sed -n 's/^job=\([0-9]*\) .*/\1/p')
  [ -n "$job" ] || die "$form: sbatch gave no job"
  until_true 90 "step 5 of job $job" has_step "$run" 5
  say "$form: job $job is at step $(curve "$run" | tail -n 1 | cut -d ' ' -f 1): SIGUSR1 to its batch shell, as --signal=B:USR1@120 sends it"
  on ctl scancel --batch --signal=USR1 "$job"
  until_true 60 "the requeue of job $job" is_requeued "$job"
  grep -q 'status=stopped exit_code=75' "$work/$form.out" || die "$form: the run did not stop with 75"
  [ -f "$run/checkpoints/latest" ] || die "$form: nothing was saved"
  sleep 3
  until_true 60 "the second turn of job $job" is_running_again "$job"
  until_true 90 "the end of job $job" is_over "$job"
  state=$(job_field "$job" JobState)
  [ "$state" = COMPLETED ] || { tail -n 60 "$work/$form.out" >&2; die "$form: job $job ended as $state"; }
  grep -q 'resumed_from=' "$work/$form.out" || die "$form: the second turn did not resume"

  curve "$straight" > "$work/expected"
  curve "$run" > "$work/got"
  [ "$(wc -l < "$work/expected")" = "$steps" ] || die "$form: the uninterrupted run has $(wc -l < "$work/expected") rows instead of $steps"
  cmp -s "$work/expected" "$work/got" || { diff "$work/expected" "$work/got" | head -n 10 >&2; die "$form: the loss curves differ"; }
  ! pgrep -f "$run/config.yaml" > /dev/null || die "$form: processes were left behind: $(pgrep -f "$run/config.yaml" | tr '\n' ' ')"
  say "$form: stopped, saved, requeued (SLURM_RESTART_COUNT=1), resumed from $(sed -n 's/.*resumed_from=.*\(step_[0-9]*\).*/\1/p' "$work/$form.out" | tail -n 1), completed: all $steps losses equal to the last bit, in $((SECONDS - begin)) s"
}

# The nodes as machines without a scheduler: check_hosts LIST BACKEND STRAIGHT, where STRAIGHT has the curve that is expected.
check_hosts() {
  local run=$work/hosts-$2 begin=$SECONDS
  # shellcheck disable=SC2016
  printf '#!/bin/sh\nhost=$1; shift\nexec "%s" "$host" sh -c "$*"\n' "$work/cluster/on" > "$work/rsh"
  chmod +x "$work/rsh"
  env -u MOE_RDZV "$work/cluster/on" node0 dotnet exec "$launch" --config "$work/tiny.yaml" --hosts "$1" --backend "$2" --ssh "$work/rsh" --run-dir "$run" > "$work/hosts-$2.out" 2>&1 ||
    { tail -n 20 "$work/hosts-$2.out" >&2; die "--hosts $1 over $2 failed"; }
  [ "$(curve "$run")" = "$(curve "$3")" ] || die "--hosts $1 over $2: the loss curves differ"
  say "--hosts $1 over $2 ($(grep -o 'started by .*;' "$work/hosts-$2.out" | tr -d ';')): all $steps losses equal to the last bit, in $((SECONDS - begin)) s"
}

if [ "$short" = yes ]; then
  check launchers 2 1 gloo
else
  check launchers 4 1 gloo
  check ranks 2 2 mpi
  if [ "$mode" = netns ]; then
    check_hosts node0,node1,node2,node3 gloo "$work/straight-launchers"
    check_hosts node0:2,node1:2 mpi "$work/straight-ranks"
  fi
fi
say "passed"

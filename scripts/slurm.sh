#!/usr/bin/env bash
# A recipe on a Slurm cluster, from the login node:
#
#   scripts/slurm.sh --corpus mls                                     # prepare, train, decode, score
#   scripts/slurm.sh train decode score --corpus mls --sparsity 0.5   # some stages: here gates on that model
#   scripts/slurm.sh train --corpus mls --conf dense                  # one, with any options of its command
#
# Each stage begins when the one before has succeeded, and takes the options given; but `prepare` takes --corpus and
# --data alone, and the scoring has no --data.
#
#   prepare  an array on PREPARE_NODES=8 nodes: an element converts its shard of the recordings, the last one writes the
#            manifests.  The corpus is there already: .venv/bin/speechgate download, on a node with a network.
#   train    a process a GPU.  Two minutes before its time is up it is told (SIGTERM), writes a checkpoint and is put
#            back into the queue; then it goes on where it stopped, as it does after a failure of a node.
#   decode   an array on DECODE_GPUS=8 GPUs: an element decodes its shard of each test set, the last one joins them.
#   score    joins what no element could (it failed, or did not see the last file of another node yet), and scores.
#
# After a failure give the command again, without the stages that are done: what was converted and decoded is kept.
# Fit the resources below to your cluster; SBATCH_PARTITION and SBATCH_ACCOUNT are Slurm's own variables.
set -uo pipefail

submit() {
  local after='' stage resources
  for stage in "${stages[@]}"; do
    case $stage in
      prepare) resources=(--array="1-${PREPARE_NODES:-8}" --cpus-per-task=16 --time=12:00:00) ;;
      train) resources=(--ntasks-per-node=4 --gpus-per-node=4 --cpus-per-task=8 --time=24:00:00 --signal=TERM@120) ;;
      decode) resources=(--array="1-${DECODE_GPUS:-8}" --gpus-per-node=1 --cpus-per-task=4 --time=12:00:00) ;;
      score) resources=(--gpus-per-node=1 --cpus-per-task=4 --time=12:00:00) ;;
    esac
    after=$(sbatch --parsable --job-name="speechgate-$stage" --nodes=1 --requeue --open-mode=append \
      --output="exp/slurm-$stage-%j.log" "${resources[@]}" \
      ${after:+--dependency="afterok:$after" --kill-on-invalid-dep=yes} \
      scripts/slurm.sh run "$stage" "$@") || exit
    after=${after%%;*} # a federation adds the cluster's name
    echo "$stage: job $after"
  done
}

choose() { # those of the options that prepare takes into prepared, those that score takes into scored
  local name words
  while (($#)); do
    name=${1%%=*} words=("$1")
    case $1 in --corpus | --data) words=("${@:1:2}") ;; esac # the value is the next word
    case $name in --corpus | --data) prepared+=("${words[@]}") ;; esac
    [[ $name == --data ]] || scored+=("${words[@]}")
    shift "${#words[@]}"
  done
}

run() {
  local stage=$1 prepared=() scored=() status
  shift
  choose "$@"
  export OMP_NUM_THREADS=1
  case $stage in
    prepare) .venv/bin/speechgate prepare "${prepared[@]}" ;;
    train)
      srun --kill-on-bad-exit=1 .venv/bin/speechgate train "$@"
      status=$?
      if ((status == 143)); then # stopped in good order: there is more to do
        scontrol requeue "$SLURM_JOB_ID"
      fi
      return "$status"
      ;;
    decode) .venv/bin/speechgate decode "$@" ;;
    score) .venv/bin/speechgate decode "$@" && .venv/bin/speechgate score "${scored[@]}" ;;
  esac
}

if [[ ${1-} == run ]]; then # within a job
  cd "$SLURM_SUBMIT_DIR" || exit
  shift
  run "$@"
  exit
fi

cd "$(dirname "$0")/.." || exit
stages=()
while (($#)) && [[ $1 != -* ]]; do
  case $1 in
    prepare | train | decode | score) stages+=("$1") ;;
    *) echo "slurm.sh: unknown stage $1: give prepare, train, decode or score" >&2 && exit 2 ;;
  esac
  shift
done
((${#stages[@]})) || stages=(prepare train decode score)
mkdir -p exp # where the logs go; Slurm does not make the folder
submit "$@"

#!/usr/bin/env bash
# Train on a Slurm cluster: `sbatch scripts/slurm.sh --conf dense`, with any options of `speechgate train`.
# The corpus is prepared beforehand, on a node with a network: .venv/bin/speechgate prepare
#
# Two minutes before its time is up the job is told (SIGTERM), writes a checkpoint and is put back into the queue; the
# same command then goes on where it stopped, as it does after a failure of a node.
#SBATCH --job-name=speechgate
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=exp/slurm-%j.log
set -uo pipefail
cd "${SLURM_SUBMIT_DIR:-.}" || exit

export OMP_NUM_THREADS=1
srun --kill-on-bad-exit=1 .venv/bin/speechgate train "$@"
status=$?
if [ "$status" -eq 143 ]; then # stopped in good order: there is more to do
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"

#!/bin/bash
# A job for Slurm:
#
#     sbatch examples/slurm.sh
#
# The nodes, and how many workers each gets, are found from the job's environment.
#SBATCH --job-name=squares
#SBATCH --nodes=2
#SBATCH --ntasks=8
#SBATCH --time=00:10:00
# Eight tasks are eight workers. Without --ntasks, each core that the job has gets one.

# module load python      # whatever brings a Python of 3.8 or newer

# srun instead of ssh, which many clusters allow to no node. One step on each node holds all of its workers:
# --overlap lets it have cores that the job's own shell has, --cpu-bind=none all of them, not those of one task;
# without --unbuffered srun would hold back what has no end of line yet.
python3 -m microscoop --ssh-executable "srun -w {host} -N1 -n1 --overlap --cpu-bind=none --unbuffered" examples/01_squares.py

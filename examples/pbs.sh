#!/bin/bash
# A job for PBS:
#
#     qsub examples/pbs.sh
#
# The nodes, and how many workers each gets, are found from $PBS_NODEFILE: one for each line. Each node is reached by ssh.
#PBS -N squares
#PBS -l select=2:ncpus=4:mpiprocs=4
#PBS -l walltime=00:10:00
# mpiprocs is how often a node stands in that file. For Torque: nodes=2:ppn=4 instead of select=...

cd "$PBS_O_WORKDIR" || exit

# module load python      # whatever brings a Python of 3.8 or newer

python3 -m microscoop examples/01_squares.py

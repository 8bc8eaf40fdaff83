#!/bin/bash
# A job for SGE:
#
#     qsub examples/sge.sh
#
# The nodes, and how many workers each gets, are found from $PE_HOSTFILE.
#$ -N squares
#$ -S /bin/bash
#$ -cwd
#$ -pe mpi 8
#$ -l h_rt=00:10:00
# mpi is the name of a parallel environment: `qconf -spl` lists them. It needs "control_slaves TRUE", for qrsh.

# module load python      # whatever brings a Python of 3.8 or newer

python3 -m microscoop --ssh-executable "qrsh -inherit {host}" examples/01_squares.py

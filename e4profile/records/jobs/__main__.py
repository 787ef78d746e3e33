"""One job of an array: ``python -m e4profile.records.jobs PLAN PART``, which a script for sbatch runs."""

import sys

from e4profile.records.jobs.worker import run_part

run_part(sys.argv[1], int(sys.argv[2]))

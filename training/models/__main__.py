"""`python -m training.models WORK`: do the job of a work folder, in every process that `accelerate launch` starts."""

import sys
from pathlib import Path

from training.models.job import read_job
from training.models.policy import POLICY, fine_tune
from training.models.reward import train_reward_model

job = read_job(Path(sys.argv[1]))
if job.kind == POLICY:
    fine_tune(job)
else:
    train_reward_model(job)

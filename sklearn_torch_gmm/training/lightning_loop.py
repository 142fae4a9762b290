"""EM as one run of a trainer."""

from __future__ import annotations

from os import PathLike

import pytorch_lightning as pl

from sklearn_torch_gmm.em.loop import Job
from sklearn_torch_gmm.em.restarts import Restart
from sklearn_torch_gmm.training.callbacks import starting_over
from sklearn_torch_gmm.training.checkpoints import check_file
from sklearn_torch_gmm.training.launchers import starts_processes
from sklearn_torch_gmm.training.module import EMModule
from sklearn_torch_gmm.training.private_parts import find_checkpoint, forget_module
from sklearn_torch_gmm.training.process_state import current_gpu_as_before
from sklearn_torch_gmm.training.trainer import make_trainer, run_trainer


def run(job: Job, ckpt_path: str | PathLike[str] | None = None) -> list[list[Restart]]:
    """Iterate as :func:`sklearn_torch_gmm.em.loop.run` does, on the devices of a trainer.

    It raises the same errors; in addition, TypeError or ValueError if the trainer refuses a
    parameter, and ValueError if the checkpoint is of another mixture. A run with a checkpoint
    continues after its last iteration.
    """
    with current_gpu_as_before():
        return _run(job, ckpt_path)


def _run(job: Job, ckpt_path: str | PathLike[str] | None) -> list[list[Restart]]:
    settings = job.fits[0].loop
    # The fits end the run themselves if a pass for the scores follows, since they may repeat
    # different iterations.
    max_epochs = -1 if job.scores else settings.max_iter
    trainer = make_trainer(settings.trainer_params, max_epochs=max_epochs)
    if trainer.world_size > 1:
        job.rows.check_shared()
    starts = None
    # A checkpoint replaces the initial values. Of several processes that already exist, the first
    # finds the values later; processes that are yet to be started receive them from this one.
    if ckpt_path is not None:
        ckpt_path = find_checkpoint(trainer, ckpt_path)
    if ckpt_path is not None:
        check_file(ckpt_path)
    elif trainer.world_size == 1 or starts_processes(trainer):
        starts = job.find_starts()
    module = EMModule(job, starts)
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    try:
        with starting_over(callbacks, continues=ckpt_path is not None):
            run_trainer(trainer, module, ckpt_path)
    finally:
        module.close()
        forget_module(trainer)
    return module.results()

"""EM as one run of a trainer."""

from __future__ import annotations

from os import PathLike

from sklearn_torch_gmm.em.loop import Job
from sklearn_torch_gmm.em.restarts import Restart
from sklearn_torch_gmm.training.checkpoints import check_file
from sklearn_torch_gmm.training.module import EMModule
from sklearn_torch_gmm.training.private_parts import starts_processes
from sklearn_torch_gmm.training.trainer import make_trainer, run_trainer


def run(job: Job, ckpt_path: str | PathLike[str] | None = None) -> list[list[Restart]]:
    """Iterate as :func:`sklearn_torch_gmm.em.loop.run` does, on what the trainer offers.

    Parameters
    ----------
    job : Job
    ckpt_path : str, path or None
        A checkpoint of an earlier run, after whose last iteration to go on.

    Raises
    ------
    IllDefinedCovarianceError
        If a covariance is not positive definite after regularization.
    NonFiniteLikelihoodError
        If a log-likelihood is not finite.
    TypeError, ValueError
        If the trainer refuses a parameter, or the checkpoint is of another mixture.
    """
    settings = job.fits[0].loop
    # With a pass for the scores, and fits that repeat different iterations, the fits end it.
    max_epochs = -1 if job.scores else settings.max_iter
    trainer = make_trainer(settings.trainer_params, max_epochs=max_epochs)
    if trainer.world_size > 1:
        job.rows.check_shared()
    starts = None
    # A checkpoint makes a start needless. Of several processes that are there already, one finds
    # the starts; before new ones begin, this one does.
    if ckpt_path is None and (trainer.world_size == 1 or starts_processes(trainer)):
        starts = job.find_starts()
    if ckpt_path is not None:
        check_file(ckpt_path)
    module = EMModule(job, starts)
    try:
        run_trainer(trainer, module, ckpt_path)
    finally:
        module.close()
    return module.results()

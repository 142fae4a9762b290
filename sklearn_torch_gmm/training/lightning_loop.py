"""EM for many mixtures as one run of a trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike

from sklearn_torch_gmm.em.restarts import Restart, Starts, SweepProgress
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.rows.source import RowSource
from sklearn_torch_gmm.training.checkpoints import check_file
from sklearn_torch_gmm.training.module import EMModule
from sklearn_torch_gmm.training.trainer import make_trainer, run, starts_processes_of_its_own


def run_fits(
    rows: RowSource,
    members: Sequence[FitSettings],
    find: Callable[[], Starts],
    ckpt_path: str | PathLike[str] | None = None,
    *,
    scores: bool = False,
    sweep_progress: SweepProgress | None = None,
) -> list[list[Restart]]:
    """All starts of all members in the same passes over the data."""
    settings = members[0]
    # With a pass for the scores, and members that repeat different iterations, the members end it.
    max_epochs = -1 if scores else settings.max_iter
    trainer = make_trainer(settings.trainer_params, max_epochs=max_epochs)
    if trainer.world_size > 1:
        rows.check_shared()
    starts: Starts | Callable[[], Starts] = find
    # A checkpoint makes a start needless. Of several processes that are there already, one finds
    # the starts; before new ones begin, this one does.
    if ckpt_path is None and (trainer.world_size == 1 or starts_processes_of_its_own(trainer)):
        starts = find()
    if ckpt_path is not None:
        check_file(ckpt_path)
    module = EMModule(rows, members, starts, scores=scores, sweep_progress=sweep_progress)
    try:
        run(trainer, module, ckpt_path)
    finally:
        module.close()
    return module.results()

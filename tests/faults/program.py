"""A fit in several processes that says how far it is, and is then ended by a test.

Run as a script: ``program.py FOLDER STRATEGY MOMENT [ENDING [RANKS]]``.
"""

import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy

from sklearn_torch_gmm import GaussianMixture

START_METHODS = {"ddp_spawn": "spawn", "ddp_fork": "fork"}

EPOCH = 2
"""The iteration in which something happens; the ones before it have left checkpoints."""


def exit_from_python() -> None:
    sys.exit(0)


def exit_at_once() -> None:
    os._exit(0)


def interrupt() -> None:
    raise KeyboardInterrupt


def stand_still() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


ENDINGS = {
    "sys.exit(0)": exit_from_python,
    "os._exit(0)": exit_at_once,
    "KeyboardInterrupt": interrupt,
    "SIGSTOP": stand_still,
}


class Tell:
    """Leaves a file with the number of the process for each rank that has come to the moment."""

    def __init__(self, folder: Path, moment: str, ending: str | None, ranks: str) -> None:
        self.folder, self.moment = folder, moment
        self.ending, self.ranks = ending, ranks

    def reached(self, moment: str, rank: int) -> None:
        place = self.folder / f"rank-{rank}"
        if moment != self.moment or place.exists():
            return
        part = self.folder / f"part-{rank}"
        part.write_text(str(os.getpid()))
        part.rename(place)
        if self.ending is not None and str(rank) in self.ranks:
            ENDINGS[self.ending]()
        # The others wait for the last process, in the rendezvous or in a sum.
        if rank == 1 and moment in ("rendezvous", "sum"):
            time.sleep(3600)


class Announcement(pl.Callback):
    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == EPOCH:
            self.tell.reached("iteration", trainer.global_rank)
            self.tell.reached("sum", trainer.global_rank)


class Strategy(DDPStrategy):
    """Announces the moment before the processes have found each other."""

    def __init__(self, tell: Tell, name: str) -> None:
        seconds = int(os.environ.get("FAULTS_TIMEOUT", "1800"))
        start_method = START_METHODS.get(name, "popen")
        super().__init__(start_method=start_method, timeout=timedelta(seconds=seconds))
        self.tell = tell

    def setup_environment(self) -> None:
        self.set_world_ranks()
        self.tell.reached("rendezvous", self.global_rank)
        super().setup_environment()


def main(folder: Path, name: str, moment: str, ending: str | None = None, ranks: str = "") -> None:
    tell = Tell(folder, moment, ending, ranks)
    params = {
        "accelerator": "cpu",
        "devices": 1 if name == "nodes" else 2,
        "num_nodes": 2 if name == "nodes" else 1,
        "strategy": Strategy(tell, name),
        "max_epochs": -1,
        "callbacks": [Announcement(tell), ModelCheckpoint(folder / "checkpoints", save_last=True)],
    }
    X = np.random.default_rng(0).normal(size=(200, 2))
    mixture = GaussianMixture(
        2, init_means=X[:2], convergence_tolerance=0.0, batch_size=20, trainer_params=params
    )
    (folder / f"caller-{os.getpid()}").touch()
    mixture.fit(X)
    (folder / f"returned-{os.getpid()}").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

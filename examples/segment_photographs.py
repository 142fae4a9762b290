"""Segment two photographs by colour and position, with scikit-learn's class and with ours.

Every pixel of scikit-learn's two sample photographs is a sample with five features: red,
green, blue, and its distances from the top and from the left. A scaler and a mixture of
eight Gaussians are fitted to all samples, once by scikit-learn's class and once by ours; a
segment is the set of pixels that most probably belong to the same component.

Both libraries get the same samples, the same initialization (K-means), the same tolerance and
the same maximum of iterations, so that the table compares like with like.
"""

import argparse
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn.mixture
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# It comes with pytorch-lightning.
from tqdm import tqdm

import sklearn_torch_gmm.mixture

PHOTOGRAPHS = ["china.jpg", "flower.jpg"]
NUM_SEGMENTS = 8
TOLERANCE = 1e-3
REGULARIZATION = 1e-6
MAX_ITERATIONS = 100
SEED = 0

THEIRS = "scikit-learn"
OURS = "sklearn-torch-gmm"

PARAMETERS = {
    "n_components": NUM_SEGMENTS,
    "covariance_type": "full",
    "init_params": "kmeans",
    "tol": TOLERANCE,
    "reg_covar": REGULARIZATION,
    "max_iter": MAX_ITERATIONS,
    "random_state": SEED,
}

# The class with scikit-learn's parameters initializes with all samples, as scikit-learn does.
MIXTURES: dict[str, Callable[[], Any]] = {
    THEIRS: lambda: sklearn.mixture.GaussianMixture(**PARAMETERS),
    OURS: lambda: sklearn_torch_gmm.mixture.GaussianMixture(**PARAMETERS),
}


class Segmentation(NamedTuple):
    """The result of one library for one photograph."""

    num_iterations: int
    converged: bool
    log_likelihood: float  # of the scaled features: mean over the pixels, in nats
    seconds: float  # the fit of the pipeline: scaler, initialization and iterations
    labels: np.ndarray  # [H, W]


def pixel_features(photograph: np.ndarray) -> np.ndarray:
    """Colour and position of each pixel, [H * W, 5], from a photograph [H, W, 3]."""
    height, width, _ = photograph.shape
    rows, columns = np.mgrid[:height, :width]
    features = [*np.moveaxis(photograph, -1, 0), rows, columns]
    return np.stack([feature.ravel() for feature in features], axis=1).astype(np.float64)


def segment(photograph: np.ndarray, mixture: Any) -> Segmentation:
    """Fit a scaler and `mixture` to every pixel of a photograph [H, W, 3]."""
    features = pixel_features(photograph)
    pipeline = make_pipeline(StandardScaler(), mixture)
    with warnings.catch_warnings():
        # The table says which fits reached the maximum number of iterations.
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = time.perf_counter()
        pipeline.fit(features)
        seconds = time.perf_counter() - start
    return Segmentation(
        num_iterations=mixture.n_iter_,
        converged=mixture.converged_,
        log_likelihood=pipeline.score(features),
        seconds=seconds,
        labels=pipeline.predict(features).reshape(photograph.shape[:2]),
    )


def paint(photograph: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Give each pixel of a photograph [H, W, 3] the mean colour of its segment."""
    painted = np.empty_like(photograph)
    for label in np.unique(labels):
        painted[labels == label] = photograph[labels == label].mean(axis=0).round()
    return painted


def warm_up() -> None:
    """Fit once with each library, so that the modules it loads are not timed."""
    noise = np.random.default_rng(SEED).integers(256, size=(32, 32, 3), dtype=np.uint8)
    for make_mixture in MIXTURES.values():
        segment(noise, make_mixture())


class Progress:
    """A bar with a running clock on a terminal, a line for each finished step in a log."""

    def __init__(self, num_steps: int) -> None:
        self._on_terminal = sys.stderr.isatty()
        size = shutil.get_terminal_size()
        self._bar = tqdm(
            total=num_steps,
            disable=not self._on_terminal,
            # On a terminal that doesn't know its size, tqdm would show nothing.
            ncols=min(size.columns, 80),
            nrows=size.lines,
            bar_format="{desc:<30} |{bar}| {n_fmt} of {total_fmt}, {elapsed}",
        )
        self._num_done = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show that `name` is being worked on, until it is done."""
        done = threading.Event()

        def keep_the_clock_running() -> None:
            while not done.wait(timeout=0.5):
                self._bar.refresh()

        self._bar.set_description_str(name)
        clock = threading.Thread(target=keep_the_clock_running, daemon=True)
        start = time.perf_counter()
        clock.start()
        try:
            yield
        finally:
            done.set()
            clock.join()
        self._num_done += 1
        self._bar.update()
        if not self._on_terminal:
            seconds = time.perf_counter() - start
            counter = f"[{self._num_done}/{self._bar.total}]"
            print(f"{counter} {name}: {seconds:.1f} s", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._bar.set_description_str("done")
        self._bar.close()


def segment_all(photographs: dict[str, np.ndarray]) -> dict[str, dict[str, Segmentation]]:
    """Segment each photograph by each library; photograph -> library -> segmentation."""
    results: dict[str, dict[str, Segmentation]] = {name: {} for name in photographs}
    progress = Progress(num_steps=1 + len(photographs) * len(MIXTURES))
    with progress.step("loading the libraries"):
        warm_up()
    for name, photograph in photographs.items():
        for library, make_mixture in MIXTURES.items():
            with progress.step(f"{name}, {library}"):
                results[name][library] = segment(photograph, make_mixture())
    progress.close()
    return results


def print_table(results: dict[str, dict[str, Segmentation]]) -> None:
    row = "{:<12}{:<19}{:>12}{:>21}{:>9}{:>8}"
    header = ["photograph", "library", "iterations", "mean log-likelihood", "seconds", "ratio"]
    print(row.format(*header))
    print("-" * len(row.format(*header)))
    for name, by_library in results.items():
        for library, result in by_library.items():
            limit = "" if result.converged else "limit: "
            print(
                row.format(
                    name,
                    library,
                    f"{limit}{result.num_iterations}",
                    f"{result.log_likelihood:.6f}",
                    f"{result.seconds:.2f}",
                    f"{by_library[THEIRS].seconds / result.seconds:.1f}",
                )
            )


def write_figure(
    photographs: dict[str, np.ndarray],
    results: dict[str, dict[str, Segmentation]],
    path: Path,
) -> None:
    """Write each photograph next to its segments, painted in their mean colours."""
    figure = Figure(figsize=(15, 3.6 * len(photographs)), layout="constrained")
    all_axes = figure.subplots(len(photographs), 1 + len(MIXTURES), squeeze=False)
    for axes, (name, photograph) in zip(all_axes, photographs.items(), strict=True):
        images = {name: photograph} | {
            library: paint(photograph, result.labels) for library, result in results[name].items()
        }
        for ax, (title, image) in zip(axes, images.items(), strict=True):
            ax.imshow(image)
            ax.set_title(title)
            ax.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build", "demo", "segments.png"),
        help="the figure to write (default: %(default)s)",
    )
    arguments = parser.parse_args()

    photographs = {name: load_sample_image(name) for name in PHOTOGRAPHS}
    num_pixels = {name: image.shape[0] * image.shape[1] for name, image in photographs.items()}
    sizes = ", ".join(f"{name} ({size:,} pixels)" for name, size in num_pixels.items())
    print(f"Segmenting {sizes} into {NUM_SEGMENTS} segments each.")
    print("Features: red, green, blue, row, column, standardized. The fit uses every pixel.")
    print(flush=True)

    results = segment_all(photographs)

    print()
    print_table(results)
    print()
    print(f"Both: full covariances, K-means initialization, tolerance {TOLERANCE:g} nats,", end=" ")
    print(f"at most {MAX_ITERATIONS} iterations.")
    print("Seconds: the whole fit, including K-means. Ratio: scikit-learn's seconds / ours.")

    write_figure(photographs, results, arguments.output)
    print(f"Figure: {arguments.output}")


if __name__ == "__main__":
    main()

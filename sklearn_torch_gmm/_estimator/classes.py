"""The classes of a classifier: encoded labels, and component probabilities summed by class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite, column_or_1d, gen_batches
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_torch_gmm._estimator.inference import evaluate, inference_of, threads_for
from sklearn_torch_gmm._estimator.validation import (
    check_in_memory,
    like_input,
    rows_of,
    validate_rows,
)
from sklearn_torch_gmm.core.device import moved
from sklearn_torch_gmm.core.inference import Inference
from sklearn_torch_gmm.rows.tensors import as_tensor, device_of

UNLABELLED = -1
"""scikit-learn's label of samples whose class is unknown."""

VALUES_AT_ONCE = 2**21
"""Number of component probabilities in memory at a time: 16 MiB, proportional to this number."""

# -- labels ---------------------------------------------------------------------------------------


def checked_labels(y: Any, num_rows: int) -> npt.NDArray[Any]:
    """Return the labels ``[N]`` as an array, or raise ValueError unless each row has one."""
    if y is None:
        msg = "GaussianMixtureClassifier requires y to be passed, but the target y is None."
        raise ValueError(msg)
    checked = column_or_1d(y.detach().cpu().numpy() if isinstance(y, Tensor) else y, warn=True)
    if len(checked) != num_rows:
        msg = f"X and y must have the same number of samples, got {num_rows} and {len(checked)}."
        raise ValueError(msg)
    checked = np.asarray(checked)
    if checked.dtype == object:
        is_missing = np.array([_is_missing(label) for label in checked])
    else:
        is_missing = checked != checked
    if is_missing.any():
        sample = int(is_missing.argmax())
        label = checked[sample]
        msg = (
            f"Input y contains {'NaN' if isinstance(label, float) else label}. It is in sample "
            f"{sample}: the label of unlabelled samples is -1."
        )
        raise ValueError(msg)
    assert_all_finite(checked, input_name="y")
    return checked


def _is_missing(label: Any) -> bool:
    """Whether a label is None, or not equal to itself, as NaN is not."""
    try:
        return label is None or bool(label != label)
    except TypeError:
        # The truth of pandas.NA is unknown.
        return True


def is_labelled(y: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which labels ``[N]`` are not −1, or raise ValueError if none of them is a class."""
    is_known = np.ones(len(y), dtype=bool)
    # A column of strings is an array of objects.
    is_text = y.dtype.kind in "US" or all(isinstance(label, str) for label in y)
    if is_text and (y == str(UNLABELLED)).any():
        msg = (
            "y has the string '-1'. NumPy turns a list of strings and numbers into strings: for "
            "unlabelled samples pass an array of dtype object, with the number -1."
        )
        raise ValueError(msg)
    if y.dtype.kind not in "USb":
        is_known = np.asarray(y != UNLABELLED, dtype=bool)
    if not is_known.any():
        msg = "All labels in y are -1, for unlabelled: label at least one sample of each class."
        raise ValueError(msg)
    return is_known


def encode(y: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return the sorted classes ``[C]``, and for each row the number of its class or −1.

    ValueError is raised unless the classes are discrete and can be distinguished from −1.
    """
    is_known = is_labelled(y)
    known = comparable(y[is_known])
    check_classification_targets(known)
    classes, numbers = np.unique(known, return_inverse=True)
    if len(classes) == 1 and not is_known.all():
        msg = (
            "Apart from -1, which stands for unlabelled samples, y has only the class "
            f"{_shown(classes[0])}. If -1 is a class of its own, give it another number."
        )
        raise ValueError(msg)
    labels = np.full(len(y), UNLABELLED, dtype=np.int64)
    labels[is_known] = numbers
    return classes, labels


def _shown(label: Any) -> str:
    """Return a label as the user wrote it, not as a NumPy scalar."""
    return repr(label.item() if isinstance(label, np.generic) else label)


def comparable(known: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Labels that can be sorted; an array of objects may hold strings or numbers."""
    if known.dtype != object:
        return known
    are_strings = [isinstance(label, str) for label in known]
    if all(are_strings):
        return known
    if any(are_strings):
        number = known[are_strings.index(False)]
        msg = f"y has strings and {number!r}: the only number next to strings is -1, unlabelled."
        raise ValueError(msg)
    return np.array(known.tolist())


def check_enough_labelled(
    labels: npt.NDArray[np.int64], classes: npt.NDArray[Any], components_per_class: int
) -> None:
    """Raise ValueError unless each class has as many labelled samples as components."""
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    fewest = int(counts.argmin())
    if counts[fewest] < components_per_class:
        msg = (
            f"Class {_shown(classes[fewest])} has {counts[fewest]} labelled samples of positive "
            f"weight, fewer than n_components_per_class={components_per_class}."
        )
        raise ValueError(msg)


# -- inference ------------------------------------------------------------------------------------


class ClassInference:
    """Probabilities of the classes of a fitted classifier for its checked data ``X``.

    The components of a class are next to each other, as many for each of the C classes.
    """

    def __init__(self, classifier: BaseEstimator, X: Any) -> None:
        check_is_fitted(classifier)
        check_in_memory(classifier, X)
        self.X = validate_rows(classifier, X, reset=False)
        self._rows = rows_of(self.X)
        self._classes = classifier.classes_
        self._mixture = classifier.mixture_
        # A tensor is evaluated on its own device, other data on the device of the trainer.
        self._inference: Inference = inference_of(self._mixture, device_of(self.X))

    def probabilities(self) -> Tensor:
        """p(class | x): ``[N, C]``."""
        result = self._empty()
        with threads_for(self._inference, self._rows):
            for place in self._places():
                shares = self._inference.responsibilities(self._part(place))
                result[place] = self._by_class(shares).sum(2)
        return result

    def log_probabilities(self) -> Tensor:
        """Log p(class | x) in nats: ``[N, C]``, even where the probability underflows."""
        log_weights = self._mixture._added_log_weights()
        result = self._empty()
        with threads_for(self._inference, self._rows):
            for place in self._places():
                rows = self._part(place)
                joint = self._inference.component_log_densities(rows)
                joint.add_(moved(log_weights, joint.device, joint.dtype))
                is_far = joint.amax(1) == -torch.inf
                if is_far.any():
                    # All densities underflow there: the nearest component decides.
                    joint[is_far] = self._inference.responsibilities(rows[is_far]).log()
                logs = self._by_class(joint).logsumexp(2).log_softmax(1)
                # A probability that rounds to one has the logarithm zero.
                result[place] = logs.masked_fill_(logs.exp().to(result.dtype) == 1.0, 0.0)
        return result

    def classes(self) -> Any:
        """The most probable class of each row: ``[N]``."""
        numbers = self.probabilities().argmax(1)
        dtype = self._classes.dtype
        # torch has no numbers of more than eight bytes.
        if device_of(self.X) is None or dtype.kind not in "iufb" or dtype.itemsize > 8:
            return self._classes[numbers.cpu().numpy()]
        return self.answer(as_tensor(self._classes).to(numbers.device)[numbers])

    def log_densities(self) -> Any:
        """Log p(x) of each row, in nats: ``[N]``."""
        return self.answer(evaluate(self._inference, "log_densities", self._rows))

    def answer(self, values: Tensor) -> Any:
        """Return values in the type that scikit-learn returns for the data."""
        return like_input(values, device_of(self.X), self._mixture._vocabulary)

    def _empty(self) -> Tensor:
        return self._rows.new_empty(self._rows.shape[0], len(self._classes))

    def _part(self, place: slice) -> Tensor:
        """Return some rows in the type of the arithmetic, if it is more precise.

        Sums and differences over the components are then rounded once, to the type of the data:
        joint log-densities of float32 far from all components differ by less than their rounding.
        """
        return self._rows[place].to(torch.promote_types(self._rows.dtype, self._inference.dtype))

    def _places(self) -> Any:
        size = max(1, VALUES_AT_ONCE // max(self._mixture.means_.shape))
        return gen_batches(self._rows.shape[0], size)

    def _by_class(self, values: Tensor) -> Tensor:
        """Values of components ``[n, K]`` as ``[n, C, K / C]``."""
        return values.unflatten(1, (len(self._classes), -1))

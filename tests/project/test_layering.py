"""Which part of the package may know of which, and what importing it may do."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sklearn_torch_gmm
from sklearn_torch_gmm.core.covariance import STRUCTURES

PACKAGE = Path(sklearn_torch_gmm.__file__).parent
PATHS = sorted(PACKAGE.rglob("*.py"))
REGISTRY = PACKAGE / "core" / "covariance" / "registry.py"

LAYERS = [
    "exceptions",
    "_private_parts",
    "core",
    "rows",
    "em",
    "training",
    "_saving",
    "_estimator",
    "_selection",
]
"""From the bottom up: a layer imports only itself and the layers below it. The public modules may
import all of them."""

LIGHTNING = ("lightning", "lightning_fabric", "pytorch_lightning", "torchmetrics")

MOST_LINES = 400

PRIVATE_NAMES_OF_OTHERS = {
    "_parameter_constraints",  # scikit-learn's protocol for estimators
    "_exit",  # Python: os._exit ends a process from any thread
    "_replace",  # Python: named tuples
}
"""Names that other people's libraries give out, although they begin as private ones do."""

PRIVATE_PARTS = {"_private_parts.py", "training/launchers.py", "training/private_parts.py"}
"""Where private parts of other people's libraries are used."""

MOST_IMPORTS_INSIDE_FUNCTIONS = 10

MOST_ATTRIBUTES = 12

CORE_MAY_IMPORT = (
    "safetensors",
    "torch",
    "typing_extensions",  # which torch requires
    "sklearn_torch_gmm.core",
)
"""And the standard library."""


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def is_within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def layer_of(module: str) -> str:
    """The layer of a module, which for a public module is the module itself."""
    return module.removeprefix("sklearn_torch_gmm.").partition(".")[0]


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join((PACKAGE.name, *(part for part in parts if part != "__init__")))


def imports_of(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """Statements of a file that import a module, wherever they stand, and the module's name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}, line {node.lineno}: a relative import"
            modules = {module_of(path) for path in PATHS}
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield node, name if name in modules else str(node.module)


def imported_modules(path: Path) -> set[str]:
    return {module for _, module in imports_of(path)}


def lines_inside_functions(path: Path) -> set[int]:
    """Lines of a file with an import that takes place when a function is called."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        part.lineno
        for node in ast.walk(tree)
        if isinstance(node, kinds)
        for part in ast.walk(node)
        if isinstance(part, (ast.Import, ast.ImportFrom))
    }


def own_modules(path: Path) -> set[str]:
    return {name for name in imported_modules(path) if is_within(name, (PACKAGE.name,))}


def literals_compared(path: Path) -> Iterator[tuple[int, str]]:
    """Lines, and strings that a file compares something with or matches it against."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Compare, ast.MatchValue)):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield node.lineno, part.value


def test_there_are_files_to_look_at():
    assert REGISTRY in PATHS
    assert {layer_of(module_of(path)) for path in PATHS} > set(LAYERS)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_core_needs_torch_and_the_standard_library_alone(path):
    if layer_of(module_of(path)) != "core":
        return
    others = [
        module
        for module in imported_modules(path)
        if not is_within(module, CORE_MAY_IMPORT)
        and module.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert others == []


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_imports_go_down_only(path):
    own = layer_of(module_of(path))
    if own not in LAYERS:
        return
    below = LAYERS[: LAYERS.index(own) + 1]
    # The version is all that anything below knows of the package itself.
    above = {m for m in own_modules(path) if layer_of(m) not in below and m != PACKAGE.name}
    assert above == set()


def test_no_module_imports_itself_by_way_of_others():
    graph = {module_of(path): own_modules(path) - {PACKAGE.name} for path in PATHS}
    # Raises CycleError.
    order = list(TopologicalSorter(graph).static_order())
    assert len(order) >= len(PATHS)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_lightning_stays_in_training(path):
    is_in_training = layer_of(module_of(path)) == "training" and path.name != "__init__.py"
    found = {
        module
        for node, module in imports_of(path)
        if is_within(module, LIGHTNING) and not is_for_checkers(path, node)
    }
    assert is_in_training or found == set()


def is_for_checkers(path: Path, node: ast.AST) -> bool:
    """Whether a statement stands below ``if TYPE_CHECKING:``."""
    return any(
        isinstance(branch, ast.If)
        and getattr(branch.test, "id", "") == "TYPE_CHECKING"
        and branch.lineno < node.lineno <= branch.end_lineno
        for branch in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


@pytest.mark.parametrize("path", [path for path in PATHS if path != REGISTRY], ids=name_of)
def test_no_module_but_the_registry_branches_on_the_covariance_type(path):
    branches = [(line, value) for line, value in literals_compared(path) if value in STRUCTURES]
    assert branches == []


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_no_module_asks_of_which_class_a_structure_is(path):
    classes = {type(structure).__name__ for structure in STRUCTURES.values()}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {
            "isinstance",
            "issubclass",
        }:
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            assert not names & classes, f"line {node.lineno}"


def defined_names(path: Path) -> Iterator[str]:
    """Names of functions, classes, variables and attributes that a file defines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif is_of_the_object_itself(node) and isinstance(node.ctx, ast.Store):
            yield node.attr


def is_of_the_object_itself(node: ast.AST) -> bool:
    """Whether a node is an attribute of ``self``, ``cls`` or ``super()``."""
    if not isinstance(node, ast.Attribute):
        return False
    owner = node.value.func if isinstance(node.value, ast.Call) else node.value
    return getattr(owner, "id", "") in {"self", "cls", "super"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names_of_other_objects(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        is_of_another = isinstance(node, ast.Attribute) and not is_of_the_object_itself(node)
        if is_of_another and is_private(node.attr):
            yield node.lineno, node.attr


NAMES_OF_LAYERS = {
    layer: {
        name for path in PATHS if layer_of(module_of(path)) == layer for name in defined_names(path)
    }
    for layer in {layer_of(module_of(path)) for path in PATHS}
}


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_layer_keeps_its_private_names_to_itself(path):
    if name_of(path) in PRIVATE_PARTS:
        return
    known = NAMES_OF_LAYERS[layer_of(module_of(path))] | PRIVATE_NAMES_OF_OTHERS
    strange = [found for found in private_names_of_other_objects(path) if found[1] not in known]
    assert strange == []


def test_each_private_name_of_others_is_needed():
    used = {name for path in PATHS for _, name in private_names_of_other_objects(path)}
    assert used >= PRIVATE_NAMES_OF_OTHERS


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_private_modules_of_others_are_imported_in_one_place(path):
    private = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and not is_within(str(node.module), (PACKAGE.name,))
        for alias in node.names
        if any(part.startswith("_") for part in f"{node.module}.{alias.name}".split("."))
        and node.module != "__future__"
    }
    assert name_of(path) in PRIVATE_PARTS or private == set()


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_file_is_short_enough_to_be_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_imports_inside_functions_are_few():
    """matplotlib is optional, and Lightning takes two seconds to import, tqdm's bars 0.2."""
    found = {name_of(path): len(lines_inside_functions(path)) for path in PATHS}
    found = {name: count for name, count in found.items() if count > 0}
    assert set(found) == {
        "_estimator/progress_bars.py",
        "convergence_display.py",
        "criterion_display.py",
        "pair_display.py",
        "plotting.py",
        "responsibility_display.py",
        "training/fit.py",
    }
    assert sum(found.values()) <= MOST_IMPORTS_INSIDE_FUNCTIONS


def attributes_of(node: ast.ClassDef) -> set[str]:
    """Names that a class's methods set on ``self``, and fields that it declares."""
    of_self = {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute)
        and isinstance(part.ctx, ast.Store)
        and getattr(part.value, "id", "") == "self"
    }
    fields = {
        part.target.id
        for part in node.body
        if isinstance(part, ast.AnnAssign) and "ClassVar" not in ast.unparse(part.annotation)
    }
    return of_self | fields


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_a_class_has_few_attributes(path):
    """Beside the estimators, whose attributes are parameters and results."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and not node.name.startswith(
            ("GaussianMixture", "BaseGaussianMixture", "BayesianGaussianMixture")
        ):
            assert len(attributes_of(node)) <= MOST_ATTRIBUTES, node.name


WITHOUT_LIGHTNING = """
import sys, tempfile
import numpy as np
import torch
from sklearn_torch_gmm import GaussianMixture, GaussianMixtureIC
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn

X = np.random.default_rng(0).normal(size=(60, 2))
for mixture_class in (GaussianMixture, DropIn):
    mixture = mixture_class(2, random_state=0).fit(X)
    mixture.predict(torch.utils.data.TensorDataset(torch.from_numpy(X)))
    mixture.partial_fit(X)
    with tempfile.TemporaryDirectory() as folder:
        mixture.save(folder)
        mixture_class.load(folder)
GaussianMixtureIC(1, 2, random_state=0).fit(X)
unwanted = {"lightning", "pytorch_lightning", "matplotlib"} & set(sys.modules)
assert not unwanted, unwanted
"""


def test_lightning_is_imported_only_where_it_runs_a_fit():
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIGHTNING],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (0, ""), finished.stderr


# What the package may not touch, seen before and after it is imported. Its dependencies are
# imported first: what they do is not ours.
IMPORT_IN_A_FRESH_PROCESS = """
import logging, os, random, signal, sys, threading, warnings

import joblib, numpy, scipy.linalg, sklearn.base, sklearn.cluster, sklearn.mixture, torch

def state():
    loggers = {
        name: (logger.level, logger.disabled, logger.propagate, logger.handlers, logger.filters)
        for name, logger in {"root": logging.root, **logging.root.manager.loggerDict}.items()
        if name in loggers_before and isinstance(logger, logging.Logger)
    }
    return {
        "warning filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "loggers": loggers,
        "logging disabled": logging.root.manager.disable,
        "environment": dict(os.environ),
        "excepthook": sys.excepthook,
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "threads": threading.active_count(),
        "random": random.getstate(),
        "numpy random": numpy.random.get_state()[1].tolist(),
        "numpy errors": numpy.geterr(),
        "numpy print": numpy.get_printoptions(),
        "torch random": torch.get_rng_state().tolist(),
        "torch dtype": torch.get_default_dtype(),
        "torch device": torch.empty(0).device,
        "torch threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch gradients": torch.is_grad_enabled(),
        "torch deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch precision": torch.get_float32_matmul_precision(),
        "scikit-learn": sklearn.get_config(),
    }

loggers_before = {"root", *logging.root.manager.loggerDict}
before = state()
import sklearn_torch_gmm
import sklearn_torch_gmm.mixture
public = [getattr(sklearn_torch_gmm, name) for name in sklearn_torch_gmm.__all__]
after = state()

changed = [name for name in before if before[name] != after[name]]
assert not changed, f"changed: {changed}"
unwanted = {"lightning", "pytorch_lightning", "matplotlib"} & set(sys.modules)
assert not unwanted, f"imported: {unwanted}"
"""


def test_public_names_are_completed_and_suggested():
    assert {*sklearn_torch_gmm.__all__} <= {*dir(sklearn_torch_gmm)}
    with pytest.raises(AttributeError, match="has no attribute 'GausianMixture'") as caught:
        _ = sklearn_torch_gmm.GausianMixture
    # What Python's suggestions are made of.
    assert caught.value.name == "GausianMixture"
    assert caught.value.obj is sklearn_torch_gmm


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("BayesianGaussianMixture", "sklearn_torch_gmm.mixture"),
        ("GaussianMixtureImputer", "sklearn_torch_gmm.impute"),
        ("KMeans", "sklearn.cluster.KMeans"),
        ("set_logging_level", "leave it out"),
    ],
)
def test_a_name_that_is_elsewhere_says_where(name, advice):
    # Tools ask for names, and expect an answer.
    assert not hasattr(sklearn_torch_gmm, name)
    with pytest.raises(AttributeError, match=rf"has no attribute '{name}': .*{advice}"):
        getattr(sklearn_torch_gmm, name)


def test_import_is_light_silent_and_changes_nothing():
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_IN_A_FRESH_PROCESS],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")

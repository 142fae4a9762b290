"""Where figures were taken: machine, threads, libraries, commit."""

import os
import platform
import re
import resource
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import joblib
from threadpoolctl import threadpool_info

ROOT = Path(__file__).resolve().parent.parent

SELECTS_KERNELS = re.compile(r"(BLIS|MKL|NVPL|OPENBLAS)_(?!.*NUM_THREADS)")
"""Environment variables that select kernels of a BLAS: they are unset in the workers."""


def machine():
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return {
        "processor": named[1] if named else platform.processor() or platform.machine(),
        "cores": joblib.cpu_count(),
        "memory_gb": round(physical_memory() / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "thread_variables": {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS")},
    }


def physical_memory():
    """Bytes of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def limit_memory(limit):
    """Bound what the process may allocate, where the system can, in bytes."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def commit():
    """The commit that is checked out, with a mark if the package was changed since."""
    git = ["git", "-C", str(ROOT)]
    try:
        name = subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    is_clean = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "sklearn_torch_gmm"])
    return name.strip() + ("+changes" if is_clean.returncode else "")


def version(distribution):
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def loaded_libraries():
    """What a worker computed with: versions, BLAS, threads, GPU."""
    names = ("numpy", "scipy", "scikit-learn", "torch", "pytorch-lightning")
    pools = sorted(
        f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip()
        + f", {pool['num_threads']} threads"
        for pool in threadpool_info()
    )
    found = {"versions": {name: version(name) for name in names}, "blas": pools}
    torch = sys.modules.get("torch")
    if torch is not None:
        # The library that torch multiplies with: "mkl" in "…, BLAS_INFO=mkl, …".
        blas = re.search(r"\bBLAS_INFO=(\w+)", torch.__config__.show())
        found |= {"torch_threads": torch.get_num_threads(), "torch_blas": blas and blas[1]}
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def told(error, length):
    """An error or a warning on one line, without the folders of the machine."""
    text = re.sub(r"(?<![:/\w])(?:/[^\s/:'\"]+)+/", "", str(error))
    return f"{type(error).__name__}: {' '.join(text.split())}"[:length]

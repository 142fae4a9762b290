"""Where figures were taken: machine, threads, libraries, commit."""

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import joblib
from threadpoolctl import threadpool_info

from benchmarks.memory import physical_memory

ROOT = Path(__file__).resolve().parent.parent

BLAS_SWITCHES = (
    "BLIS_ARCH_TYPE",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVPL_BLAS_DEBUG_CPU_TYPE",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
)
"""Environment variables that select BLAS kernels: they are unset in the workers."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": joblib.cpu_count(),
        "memory_gb": round(physical_memory() / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "thread_variables": {name: os.environ[name] for name in _THREADS if name in os.environ},
    }


def commit() -> str:
    """The commit that is checked out, with a mark if the package was changed since."""

    def git(*arguments: str) -> str:
        return subprocess.check_output(["git", "-C", str(ROOT), *arguments], text=True).strip()

    try:
        changed = git("status", "--porcelain", "--", "sklearn_torch_gmm")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def loaded_libraries() -> dict[str, Any]:
    """What a worker computed with: versions, BLAS, threads, GPU."""
    names = ("numpy", "scipy", "scikit-learn", "torch", "pytorch-lightning")
    pools = sorted(
        f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip()
        + f", {pool['num_threads']} threads"
        for pool in threadpool_info()
    )
    found: dict[str, Any] = {"versions": {name: version(name) for name in names}, "blas": pools}
    torch = sys.modules.get("torch")
    if torch is not None:
        # The library that torch multiplies with: "mkl" in "…, BLAS_INFO=mkl, …".
        blas = re.search(r"\bBLAS_INFO=(\w+)", torch.__config__.show())
        found |= {"torch_threads": torch.get_num_threads(), "torch_blas": blas and blas[1]}
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def without_paths(text: str) -> str:
    """A message that tells nothing of the folders of the machine."""
    return re.sub(r"(?<![:/\w])(?:/[^\s/:'\"]+)+/", "", text)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

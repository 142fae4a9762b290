"""Where figures were taken: machine, threads, libraries, commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

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

_ROOT = Path(__file__).resolve().parent.parent


def num_cores() -> int:
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    found = {
        "processor": _processor(),
        "cores": num_cores(),
        "memory_gb": round(physical_memory() / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    threads = {name: os.environ[name] for name in _THREADS if name in os.environ}
    return {**found, "thread_variables": threads}


_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def commit() -> str:
    """The commit that is checked out, with a mark if the package was changed since."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

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
    found: dict[str, Any] = {"versions": {name: version(name) for name in names}}
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        pools = []
    else:
        pools = threadpool_info()
    found["blas"] = sorted(
        f"{pool['internal_api']} {pool.get('version')} {pool.get('architecture', '')}".strip()
        + f", {pool['num_threads']} threads"
        for pool in pools
    )
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch_threads"] = torch.get_num_threads()
        found["torch_blas"] = _torch_blas(torch.__config__.show())
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def _torch_blas(configuration: str) -> str | None:
    """The library that torch multiplies with: "mkl" in "…, BLAS_INFO=mkl, …"."""
    found = re.search(r"\bBLAS_INFO=(\w+)", configuration)
    return None if found is None else found[1]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.cases import Measurement
from benchmarks.robustness.inputs import INPUTS
from benchmarks.robustness.page import LIBRARIES, write_page
from benchmarks.robustness.plot import draw
from benchmarks.run import ROOT, Results, measure


def main() -> None:
    options = _options()
    output = Path(options.output)
    if not options.page:
        results = Results(output, append=options.append, device="cpu")
        for name in options.inputs:
            for covariance in INPUTS[name].covariances:
                measurement = Measurement("robustness", name, covariance, INPUTS[name].dtype)
                print(name, covariance, flush=True)
                for record in measure(measurement, options.libraries, options):
                    results.add(record)
                    print("   ", record["library"], _line(record), flush=True)
    print(f"Written: {write_page(output, ROOT / 'docs' / 'robustness.md')}")
    print(f"Drawn: {draw(output, ROOT / 'docs' / 'images' / 'robustness.png')}")


def _line(record: dict[str, Any]) -> str:
    if "values" not in record:
        return record.get("error") or "– " + record["not_offered"]
    return ", ".join(f"{name} {value}" for name, value in record["values"].items())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness")
    parser.add_argument("--inputs", nargs="+", choices=list(INPUTS), default=list(INPUTS))
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds a process may take")
    parser.add_argument(
        "--output", default=str(ROOT / "benchmarks" / "results" / "robustness.json")
    )
    parser.add_argument("--append", action="store_true", help="keep other records of the output")
    parser.add_argument("--page", action="store_true", help="write the page, run nothing")
    parser.set_defaults(repeats=1, device="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()

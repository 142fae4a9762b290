"""The commands: `python -m benchmarks run`, `report`, `robustness`, `table`."""

import argparse
import json
from pathlib import Path
from pkgutil import iter_modules, resolve_name

from benchmarks import report, tables
from benchmarks.cases import CASES, COVARIANCES, DTYPES
from benchmarks.environment import ROOT, machine, version
from benchmarks.forms import Measurement
from benchmarks.markdown import fill
from benchmarks.peers import PEERS
from benchmarks.results import Results
from benchmarks.robustness.inputs import INPUTS
from benchmarks.robustness.page import LIBRARIES, page_of
from benchmarks.run import make_plan, take
from benchmarks.tasks import TASKS

DOCS, RESULTS = ROOT / "docs", ROOT / "benchmarks" / "results"


def run(options):
    """Measure, and write a report next to the results."""
    take(make_plan(options), Results(options.output, options.device), options)
    page = options.output.with_suffix(".md")
    page.write_text(report.section(options.output, page.parent))
    print(f"Written: {options.output}, {page}")


def write_report(_):
    """Write docs/benchmarks.md and the README's ratios, from benchmarks/results."""
    paths = [path for name in report.HEADINGS if (path := RESULTS / f"{name}.json").exists()]
    sections = [report.section(path, DOCS / "images", "images/") for path in paths]
    fill(DOCS / "benchmarks.md", "\n".join(sections))
    ratios = [report.ratios(path) for path in paths if path.stem != "gpu"]
    fill(ROOT / "README.md", "\n".join(ratios))


def robustness(options):
    """Fit difficult data, and write docs/robustness.md."""
    if not options.page:
        plan = [
            (Measurement("robustness", name, covariance, INPUTS[name].dtype), options.libraries)
            for name in options.inputs
            for covariance in INPUTS[name].covariances
        ]
        take(plan, Results(options.output, options.device), options)
    fill(DOCS / "robustness.md", page_of(options.output, DOCS / "images" / "robustness.png"))


def table(options):
    """Print the table of a single page, with settings such as seeds=5."""
    settings = (setting.split("=") for setting in options.settings)
    found = machine() | {name: version(name) for name in ("torch", "scikit-learn")}
    print(*(f"{name} {value}" for name, value in found.items()), sep=", ")
    function = resolve_name(f"benchmarks.tables.{options.name}:table")
    print(function(**{name: json.loads(value) for name, value in settings}))


def add_parser(commands, name, function):
    """A command that is a function."""
    parser = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    parser.set_defaults(function=function)
    return parser


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    measures = add_parser(commands, "run", run)
    measures.add_argument("--form", choices=("short", "whole"), default="short")
    choices = {"cases": CASES, "tasks": TASKS, "covariances": COVARIANCES, "dtypes": DTYPES}
    for name, values in {**choices, "libraries": PEERS}.items():
        measures.add_argument(f"--{name}", nargs="+", choices=list(values))
    measures.add_argument("--repeats", type=int, default=3)
    measures.add_argument("--device", default="cpu", help="cpu or cuda")
    add_parser(commands, "report", write_report)
    difficult = add_parser(commands, "robustness", robustness)
    difficult.add_argument("--inputs", nargs="+", choices=list(INPUTS), default=list(INPUTS))
    difficult.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    difficult.add_argument("--page", action="store_true", help="write the page, run nothing")
    difficult.set_defaults(repeats=1, device="cpu")
    for one, output, seconds in (
        (measures, RESULTS.parent / "output" / "short.json", 600.0),
        (difficult, RESULTS / "robustness.json", 60.0),
    ):
        one.add_argument("--output", type=Path, default=output, help="what else is in it stays")
        one.add_argument("--resume", action="store_true", help="leave out what the output has")
        one.add_argument("--timeout", type=float, default=seconds, help="seconds of a process")
    tabulates = add_parser(commands, "table", table)
    tabulates.add_argument("name", choices=[found.name for found in iter_modules(tables.__path__)])
    tabulates.add_argument("settings", nargs="*", metavar="NAME=NUMBER")
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()

"""The commands: `python -m benchmarks run`, `report`, `robustness`, `table`."""

import argparse
import json
from pathlib import Path
from pkgutil import iter_modules, resolve_name

from benchmarks import report, tables
from benchmarks.cases import CASES, COVARIANCES, DTYPES
from benchmarks.environment import ROOT, machine, version
from benchmarks.forms import FORMS, Measurement
from benchmarks.markdown import fill
from benchmarks.peers import PEERS
from benchmarks.results import Results
from benchmarks.robustness.inputs import INPUTS
from benchmarks.robustness.page import LIBRARIES, page_of
from benchmarks.robustness.plot import draw
from benchmarks.run import make_plan, take
from benchmarks.tasks import TASKS

DOCS, RESULTS = ROOT / "docs", ROOT / "benchmarks" / "results"


def run(options: argparse.Namespace) -> None:
    """Measure, and write a report next to the results."""
    take(make_plan(options), Results(options.output, options.device), options)
    page = options.output.with_suffix(".md")
    page.write_text(report.sections([options.output], page.parent))
    print(f"Written: {options.output}, {page}")


def write_report(_: argparse.Namespace) -> None:
    """Write docs/benchmarks.md and the README's ratios, from benchmarks/results."""
    paths = [path for name in report.HEADINGS if (path := RESULTS / f"{name}.json").exists()]
    fill(DOCS / "benchmarks.md", report.sections(paths, DOCS / "images", "images/"))
    fill(ROOT / "README.md", report.ratios([path for path in paths if path.stem != "gpu"]))


def robustness(options: argparse.Namespace) -> None:
    """Fit difficult data, and write docs/robustness.md."""
    if not options.page:
        plan = [
            (Measurement("robustness", name, covariance, INPUTS[name].dtype), options.libraries)
            for name in options.inputs
            for covariance in INPUTS[name].covariances
        ]
        take(plan, Results(options.output, options.device), options)
    fill(DOCS / "robustness.md", page_of(options.output))
    draw(options.output, DOCS / "images" / "robustness.png")


def table(options: argparse.Namespace) -> None:
    """Print the table of a single page, with settings such as seeds=5."""
    settings = (setting.split("=") for setting in options.settings)
    values = {name: json.loads(value) for name, value in settings}
    found = machine() | {name: version(name) for name in ("torch", "scikit-learn")}
    print(*(f"{name} {value}" for name, value in found.items()), sep=", ")
    print(resolve_name(f"benchmarks.tables.{options.name}:table")(**values))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: object) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        made.set_defaults(function=function)
        return made

    measures = command("run", run)
    measures.add_argument("--form", choices=FORMS, default="short")
    measures.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE")
    measures.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK")
    measures.add_argument("--covariances", nargs="+", choices=COVARIANCES)
    measures.add_argument("--dtypes", nargs="+", choices=DTYPES)
    measures.add_argument("--libraries", nargs="+", choices=PEERS, metavar="LIBRARY")
    measures.add_argument("--repeats", type=int, default=3)
    measures.add_argument("--device", default="cpu", help="cpu or cuda")
    measures.epilog = (
        f"Cases: {', '.join(CASES)}. Tasks: {', '.join(TASKS)}. Libraries: {', '.join(PEERS)}."
    )
    command("report", write_report)
    difficult = command("robustness", robustness)
    difficult.add_argument("--inputs", nargs="+", choices=INPUTS, default=list(INPUTS))
    difficult.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    difficult.add_argument("--page", action="store_true", help="write the page, run nothing")
    difficult.set_defaults(repeats=1, device="cpu")
    for one, seconds, output in (
        (measures, 600.0, RESULTS.parent / "output" / "short.json"),
        (difficult, 60.0, RESULTS / "robustness.json"),
    ):
        one.add_argument("--output", type=Path, default=output, help="what else is in it stays")
        one.add_argument("--timeout", type=float, default=seconds, help="of a process, in seconds")
        one.add_argument("--resume", action="store_true", help="leave out what the output holds")
    tabulates = command("table", table)
    names = [module.name for module in iter_modules(tables.__path__)]
    tabulates.add_argument("name", choices=names)
    tabulates.add_argument("settings", nargs="*", metavar="NAME=NUMBER")
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()

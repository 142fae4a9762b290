"""A file of records: what was measured, and on what."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.forms import Measurement

Record = dict[str, Any]

KEY = ("task", "case", "covariance", "dtype", "device")
"""The names of a record that make up a row of a table."""


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


class Results:
    """A file of records, written anew after each: what is interrupted is not lost.

    What a record was measured on stands in `environments`, under the name that the record gives.
    """

    def __init__(self, path: Path, device: str) -> None:
        self.path = path
        self._here = {**environment.machine(), "commit": environment.commit(), "device": device}
        self.content = load(path) if path.exists() else {"environments": {}, "records": []}
        path.parent.mkdir(parents=True, exist_ok=True)

    def holds(self, measurement: Measurement, libraries: Sequence[str]) -> bool:
        """Whether the file has something from each of the libraries."""
        row = {**asdict(measurement), "device": self._here["device"]}
        found = {_key(record) for record in self.content["records"]}
        return found.issuperset(_key({**row, "library": library}) for library in libraries)

    def add(self, record: Record) -> None:
        here = {**self._here, **record.pop("libraries", {})}
        name = hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()[:8]
        if "values" in record:
            self.content["environments"].setdefault(name, here)
        # A measurement that is taken again replaces what an earlier run left.
        if record["repeat"] == 0:
            kept = [old for old in self.content["records"] if _key(old) != _key(record)]
            self.content["records"] = kept
        day = datetime.now(timezone.utc).date().isoformat()
        self.content["records"].append({**record, "environment": name, "day": day})
        self._write()

    def _write(self) -> None:
        """A line for each record."""
        environments = json.dumps(self.content["environments"], indent=1)
        records = ",\n".join(json.dumps(record) for record in self.content["records"])
        temporary = self.path.with_suffix(".part")
        temporary.write_text(f'{{"environments": {environments},\n"records": [\n{records}\n]}}\n')
        temporary.replace(self.path)


def _key(record: Record) -> tuple[str, ...]:
    return tuple(record[name] for name in (*KEY, "library"))

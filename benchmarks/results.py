"""A file of records: what was measured, and on what."""

import hashlib
import json
from dataclasses import asdict
from datetime import datetime, timezone

from benchmarks import environment

ROW = ["task", "case", "covariance", "dtype", "device"]
"""The names of a record that make up a row of a table."""


def load(path):
    return json.loads(path.read_text())


class Results:
    """A file of records, written again after each: what is interrupted is not lost.

    What a record was measured on stands in `environments`, under the name that the record gives.
    """

    def __init__(self, path, device):
        self.path = path
        self._here = {**environment.machine(), "commit": environment.commit(), "device": device}
        self.content = load(path) if path.exists() else {"environments": {}, "records": []}
        path.parent.mkdir(parents=True, exist_ok=True)

    def holds(self, measurement, libraries):
        """Whether the file has something from each of the libraries."""
        row = {**asdict(measurement), "device": self._here["device"]}
        found = {_key(record) for record in self.content["records"]}
        return found.issuperset(_key({**row, "library": library}) for library in libraries)

    def add(self, record):
        here = {**self._here, **record.pop("libraries", {})}
        name = hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()[:8]
        if "values" in record:
            self.content["environments"].setdefault(name, here)
        records = self.content["records"]
        # A measurement that is taken again replaces what an earlier run left.
        if record["repeat"] == 0:
            records[:] = [old for old in records if _key(old) != _key(record)]
        day = datetime.now(timezone.utc).date().isoformat()
        records.append({**record, "environment": name, "day": day})
        lines = ",\n".join(map(json.dumps, records))
        environments = json.dumps(self.content["environments"], indent=1)
        temporary = self.path.with_suffix(".part")
        temporary.write_text(f'{{"environments": {environments},\n"records": [\n{lines}\n]}}\n')
        temporary.replace(self.path)


def _key(record):
    return tuple(record[name] for name in (*ROW, "library"))

"""Tables in Markdown, and the place for them in a page."""

from tabulate import DataRow, TableFormat

START = "<!-- written by python -m benchmarks -->"
END = "<!-- end of what was written -->"


def markdown(table, labels=None):
    """The columns of a table, those behind the first `labels` of them aligned to the right.

    Cells have no padding: a cell that grows changes its own line of a page, not all of them.
    """
    rows = DataRow("| ", " | ", " |")
    left = len(table.columns) if labels is None else labels
    rule = "|" + "---|" * left + "---:|" * (len(table.columns) - left)
    plain = TableFormat(None, lambda *_: rule, None, None, rows, rows, 0, None)
    return table.to_markdown(index=False, tablefmt=plain, disable_numparse=True, stralign=None)


def bold(cells, chosen):
    """The cells, in bold type where a table of the same shape says so."""
    return cells.mask(chosen, "**" + cells + "**")


def fill(page, text):
    """Put a text between the two marks of a page, in the place of the last one."""
    before, start, rest = page.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{page} lacks the marks of the text: {START} ... {END}")
    page.write_text(f"{before}{start}\n\n{text.rstrip()}\n\n{end}{after}")

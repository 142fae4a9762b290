"""Tables of single pages: each module has a function `table` that returns Markdown."""

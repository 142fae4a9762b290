"""Tables of single pages: each module has a function `table` that returns Markdown.

Times are those of the process, with one thread, unless a module says otherwise.
"""

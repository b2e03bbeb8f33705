"""Show a function's source straight from its file, so that what is read is what runs."""

import inspect

from IPython.display import display


def show_source(*objects: object) -> None:
    """Display the source of each function or class as highlighted Python.

    nbval compares the stored text with the file, so a page never shows code that no longer runs.

    Raises:
        TypeError: an object has no Python source.
    """
    for text in [inspect.getsource(thing).rstrip() for thing in objects]:
        fence = "```"
        while fence in text:  # a docstring may hold one
            fence += "`"
        display(
            {"text/markdown": f"{fence}python\n{text}\n{fence}", "text/plain": text},
            raw=True,
        )

"""Show a function's source straight from its file, so that what is read is what runs."""

import inspect

from IPython.display import display


def show_source(*objects: object) -> None:
    """Display the source of each function or class as highlighted Python.

    nbval compares the stored text with the file, so a page never shows code that no longer runs.

    Raises:
        TypeError: an object has no Python source.
    """
    for thing in objects:
        text = inspect.getsource(thing)
        display({"text/markdown": f"```python\n{text.rstrip()}\n```", "text/plain": text.rstrip()}, raw=True)

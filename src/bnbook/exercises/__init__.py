"""Exercises that say why an answer is wrong: `check`, `hint`, `solution`, and the stubs of the notebooks.

    check("backward-dx", my_function)   # correct, not attempted, incorrect, or cannot be checked
    hint("backward-dx")                 # hint("backward-dx", 2) says more
    solution("backward-dx")

The exercises of a part, with their known mistakes, are in `bnbook.exercises.<part>`, a module each.
"""

from bnbook.exercises.core import check, hint, registry, solution, stub
from bnbook.exercises.model import Hint, Result, Solution

registry()  # now, while NumPy is as imported: nothing that a notebook does later reaches what is expected

__all__ = ["Hint", "Result", "Solution", "check", "hint", "solution", "stub"]

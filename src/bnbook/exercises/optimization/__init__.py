"""The exercises of the part `optimization`, in the order of its chapters; one module each."""

EXERCISES = ()

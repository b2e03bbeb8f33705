"""The exercises of the part `estimation`, in the order of its chapters; one module each."""

EXERCISES = ()

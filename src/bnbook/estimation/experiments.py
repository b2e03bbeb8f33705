"""The long experiments of this part: `make experiments`."""

EXPERIMENTS = ()

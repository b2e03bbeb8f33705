"""The long experiments of this part: `make experiments`."""

import sys

from bnbook.experiments import main
from bnbook.training import higgs, search

EXPERIMENTS = (*higgs.EXPERIMENTS, *search.EXPERIMENTS)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENTS))

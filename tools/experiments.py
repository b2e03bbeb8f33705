"""Run the long experiments of all parts: each part lists its own in bnbook.<part>.experiments.

    python tools/experiments.py [--list] [--only NAME ...] [--fresh]
"""

import importlib
import sys

from chapters import ROOT

from bnbook.experiments import main


def experiments():
    """The experiments of every part, in the order of the alphabet."""
    modules = sorted(path.parent.name for path in ROOT.glob("src/bnbook/*/experiments.py"))
    return [e for part in modules for e in importlib.import_module(f"bnbook.{part}.experiments").EXPERIMENTS]


if __name__ == "__main__":
    sys.exit(main(experiments()))

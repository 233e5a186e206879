"""A grid of initial policies of three patterns, of any size: `qra grid` by another name."""

import sys
from collections.abc import Sequence

from qra_jax.cli import run_command
from qra_jax.commands import GridSweep


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep asked for; returns the exit code (2 for bad input, 130 after Ctrl-C)."""
    return run_command(GridSweep, "python -m experiments.grid", arguments)


if __name__ == "__main__":
    sys.exit(main())

"""What the rollouts of a base model say of its training: `qra diagnose FILE` by another name."""

import sys
from collections.abc import Sequence

from qra_jax.cli import run_command
from qra_jax.commands import Diagnose


def main(arguments: Sequence[str] | None = None) -> int:
    """Diagnose, write the report, and print its summary; returns the exit code (2 for bad
    input)."""
    return run_command(Diagnose, "python -m experiments.diagnose", arguments)


if __name__ == "__main__":
    sys.exit(main())

"""The console script `qra`."""

import importlib
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from ._core.version import VERSION
from .commands import BadSetting, Diagnose, GridSweep, require_writable

Command = (
    Annotated[Diagnose, tyro.conf.subcommand(Diagnose.name)]
    | Annotated[GridSweep, tyro.conf.subcommand(GridSweep.name)]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The training dynamics of RL on reasoning models, from the command line. `qra --version` says
    which version this is."""
    words = _words(arguments)
    if words == ["--version"]:
        print(f"qra {VERSION}")
        return 0
    return _run(Command, words, "qra", main.__doc__)


def run_command(
    command: type[Diagnose | GridSweep], program: str, arguments: Sequence[str] | None = None
) -> int:
    """One command by itself, under a program name of its own.

    **Arguments:** `command`; `program`: as the user calls it; `arguments`: those of the process if
    not given.

    **Returns:** the exit code: 2 for bad input, 130 after Ctrl-C.
    """
    return _run(Annotated[command, tyro.conf.arg(name="")], _words(arguments), program, None)


def _words(arguments: Sequence[str] | None) -> list[str]:
    return list(sys.argv[1:] if arguments is None else arguments)


def _run(kind, words: list[str], program: str, description: str | None) -> int:
    settings = None
    try:
        settings = tyro.cli(kind, args=words, prog=program, description=description)
        if not getattr(settings, "dry_run", False):
            require_writable(settings.out)
        # Loads JAX, which takes seconds: not before help, bad settings and bad folders.
        work = importlib.import_module(f".commands._run_{settings.name}", __package__)
        said = work.run(settings)
    except (BadSetting, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if not isinstance(settings, GridSweep):
            raise
        again = [word for word in words if word not in ("--overwrite", "--resume")]
        command = shlex.join([*program.split(), *again, "--resume"])
        print(f"interrupted; this continues:\n  {command}", file=sys.stderr)
        return 130
    if said:
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())

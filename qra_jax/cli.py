"""The console script `qra`."""

import importlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from ._core.interrupts import leave_while_loading

if __name__ == "__main__" or Path(sys.argv[0]).stem == "qra":
    leave_while_loading()

import tyro

from ._core.version import VERSION
from .commands import (
    BadSetting,
    Compare,
    Diagnose,
    GridSweep,
    SuggestRules,
    leaving_on_interrupt,
    require_writable,
)

Command = (
    Annotated[Compare, tyro.conf.subcommand(Compare.name)]
    | Annotated[Diagnose, tyro.conf.subcommand(Diagnose.name)]
    | Annotated[GridSweep, tyro.conf.subcommand(GridSweep.name)]
    | Annotated[SuggestRules, tyro.conf.subcommand(SuggestRules.name)]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The training dynamics of RL on reasoning models, from the command line. `qra --version` says
    which version this is."""
    words = _words(arguments)
    if words == ["--version"]:
        print(f"qra {VERSION}")
        return 0
    return _run(Command, words, "qra", main.__doc__, arguments is None)


def run_command(
    command: type[Compare | Diagnose | GridSweep | SuggestRules],
    program: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """One command by itself, under a program name of its own.

    **Arguments:** `command`; `program`: as the user calls it; `arguments`: those of the process if
    not given.

    **Returns:** the exit code: 2 for bad input, 130 after Ctrl-C.
    """
    kind = Annotated[command, tyro.conf.arg(name="")]
    return _run(kind, _words(arguments), program, None, arguments is None)


def _words(arguments: Sequence[str] | None) -> list[str]:
    return list(sys.argv[1:] if arguments is None else arguments)


def _run(kind, words: list[str], program: str, description: str | None, own: bool) -> int:
    """`own`: whether the process is there for this command alone, so that Ctrl-C may end it."""
    said = "interrupted: nothing was written"
    try:
        settings = tyro.cli(kind, args=words, prog=program, description=description)
        if isinstance(settings, GridSweep):
            again = [word for word in words if word not in ("--overwrite", "--resume")]
            command = shlex.join([*program.split(), *again, "--resume"])
            said = f"interrupted; this continues: {command}"
        with leaving_on_interrupt(said, own):
            if not (isinstance(settings, SuggestRules) or getattr(settings, "dry_run", False)):
                require_writable(settings.out)
            # Loads JAX, which takes seconds: not before help, bad settings and bad folders.
            work = importlib.import_module(f".commands._run_{settings.name}", __package__)
            result = work.run(settings)
    except (BadSetting, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(said, file=sys.stderr)
        return 130
    if result:
        print(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())

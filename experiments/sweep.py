"""The maps of the lab from the command line: `python -m experiments.sweep [map] [options]`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro

from qra_jax.commands import BadSetting, leaving_on_interrupt

from ._lab.map import Map, MapResult
from ._lab.text import counted, disagreements
from ._lab.together import run_maps
from .maps.branches.compute import Branches
from .maps.calibration.compute import Calibration
from .maps.forecast.compute import ForecastMap
from .maps.gap.compute import Gap
from .maps.portraits.compute import Portraits
from .maps.regimes.compute import Regimes
from .maps.rlif.compute import Rlif
from .maps.sft.compute import Sft
from .maps.tokens.compute import Tokens

MAPS: tuple[type[Map], ...] = (Regimes, Sft, Rlif)


@dataclasses.dataclass(frozen=True)
class All:
    """The maps of the flow, regimes, sft and rlif, with their defaults; others are run by name."""

    out: Path = Path("results")
    """folder that each map's own folder is written into"""
    quick: bool = False
    """small versions, for a first look and for tests"""
    redraw: bool = False
    """make figures and summaries again from the stored data, computing nothing"""
    seed: int = 0
    """seed of all random draws, a whole number of at least 0"""
    quiet: bool = False
    """no progress bars"""

    def maps(self) -> list[Map]:
        """The three maps with these settings."""
        return [kind(**vars(self)) for kind in MAPS]


Choice = (
    Annotated[All, tyro.conf.subcommand("all")]
    | Annotated[Regimes, tyro.conf.subcommand("regimes")]
    | Annotated[Sft, tyro.conf.subcommand("sft")]
    | Annotated[Rlif, tyro.conf.subcommand("rlif")]
    | Annotated[Gap, tyro.conf.subcommand("gap")]
    | Annotated[Branches, tyro.conf.subcommand("branches")]
    | Annotated[Portraits, tyro.conf.subcommand("portraits")]
    | Annotated[Tokens, tyro.conf.subcommand("tokens")]
    | Annotated[Calibration, tyro.conf.subcommand("calibration")]
    | Annotated[ForecastMap, tyro.conf.subcommand("forecast")]
)


def _report(settings: Map, result: MapResult) -> str:
    """What was found and what disagrees; the rest is in the files that it names."""
    failed = "no cell failed"
    if result.failed:
        why = ", ".join(f"{number} x {name}" for name, number in result.failed.items())
        failed = f"{sum(result.failed.values())} cells FAILED ({why})"
    lines = [f"{settings.name}: {counted(result.claims)}; {failed}"]
    lines += [f"  {line}" for line in (*result.notes, *disagreements(result.claims))]
    lines.append(f"  wrote {result.folder}: claims.txt (all claims), figure.png, data.zarr")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the maps asked for; returns the exit code (2 for bad input, 130 after Ctrl-C)."""
    said = "interrupted: maps that were not complete were not written"
    with leaving_on_interrupt(said, arguments is None):
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Without a map's name, all of them: the options of `all` need no name before them.
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["all", *arguments]
    jax.config.update("jax_enable_x64", True)
    try:
        chosen = tyro.cli(
            Choice, args=arguments, prog="python -m experiments.sweep", description=__doc__
        )
        maps = chosen.maps() if isinstance(chosen, All) else [chosen]
        results = run_maps(maps)
    except (BadSetting, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for settings, result in zip(maps, results, strict=True):
        print(_report(settings, result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Draw the documentation's figures again, from the data that they were drawn from.

`python -m experiments.redraw` writes the PNG files of docs/; with `--out FOLDER` it writes PNG and
PDF files into that folder. Nothing is computed. The data of each map lie in experiments/data/maps
(a zipped zarr store, with versions, seed and settings), those of the language models in
experiments/data/language_model.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure
from zarr.storage import ZipStore

from qra_jax import plot

from .language_model import _results
from .maps.branches.figure import draw_branches
from .maps.calibration.figure import draw_calibration
from .maps.forecast.figure import draw_forecast
from .maps.gap.figure import draw_gap
from .maps.portraits.figure import draw_portraits
from .maps.regimes.figure import draw_regimes
from .maps.tokens.figure import draw_tokens

DOCS = Path(__file__).parents[1] / "docs"
DATA = Path(__file__).parent / "data" / "maps"
MAPS: Mapping[str, Callable[[xr.Dataset], Figure]] = {
    "regimes": draw_regimes,
    "gap": draw_gap,
    "portraits": draw_portraits,
    "branches": draw_branches,
    "tokens": draw_tokens,
    "calibration": draw_calibration,
    "forecast": draw_forecast,
}


def read_map(name: str) -> xr.Dataset:
    """The data of a map as they are shipped."""
    with ZipStore(DATA / f"{name}.zarr.zip", mode="r") as store:
        return xr.open_zarr(store, chunks=None).load().drop_encoding()


def main() -> None:
    """Draw and write them, all or those that are named."""
    names = [*MAPS, "language_model"]
    parser = argparse.ArgumentParser(prog="python -m experiments.redraw", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*names, []], help="figures; all by default")
    parser.add_argument("--out", type=Path, help="folder for PNG and PDF files, not docs/")
    asked = parser.parse_args()
    for name in asked.names or names:
        if name == "language_model":
            found = _results.figures(_results.read_study())
            drawn = {f"{name}_{key}": figure for key, figure in found.items()}
        else:
            drawn = {name: MAPS[name](read_map(name))}
        for key, figure in drawn.items():
            for suffix in ("png", "pdf") if asked.out else ("png",):
                path = (asked.out or DOCS) / f"{key}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                with plot.style():
                    figure.savefig(path)
                print(f"wrote {path}")


if __name__ == "__main__":
    main()

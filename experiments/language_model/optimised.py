"""Runs foretold with their own optimiser, beside simple curves, on the study's 144 runs by RLVR.

`python -m experiments.language_model.optimised` writes experiments/data/optimised.json (an hour on
two cores).
"""

import argparse
import json
from pathlib import Path

import jax

from ._optimised import HEAD, PLAIN_HEAD, compared
from ._results import read_study

RESULTS = Path(__file__).parents[1] / "data" / "optimised.json"


def main() -> None:
    """Compare, and write what was found, kind by kind as it comes."""
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(
        prog="python -m experiments.language_model.optimised", description=__doc__
    )
    parser.add_argument("--particles", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    kinds = []
    for found in compared(read_study(), particles=asked.particles):
        kinds.append(found)
        print(json.dumps(found), flush=True)
        heads = {"head": repr(HEAD), "plain_head": repr(PLAIN_HEAD)}
        whole = {"particles": asked.particles, **heads, "kinds": kinds}
        asked.out.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()

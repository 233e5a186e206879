"""`python -m experiments.trust`: what the stored studies say of the diagnosis, for its report.

Written to qra_jax/diagnosis/words/trust.json, which the report reads: no number in it is typed in.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from .language_model._compare import agreement, coverage, losses
from .language_model._results import read_study
from .language_model._study import KINDS

DATA = Path(__file__).parent / "data"
FILE = Path(__file__).parents[1] / "qra_jax" / "diagnosis" / "words" / "trust.json"


def _runs(study: xr.Dataset, kind: str) -> xr.Dataset:
    of = KINDS[kind]
    return study.sel(kind=[kind], base=list(of.bases)).isel(seed=slice(of.seeds))


def _of_kind(study: xr.Dataset, kind: str) -> dict[str, Any]:
    runs = _runs(study, kind)
    found = agreement(runs, kind)
    inside = float(coverage(runs)["accuracy"].mean())
    return {
        "regimes": int(np.sum(found.regimes)),
        "order": round(float(found.order), 2),
        "covered": round(inside, 2),
    }


def _answers() -> dict[str, int]:
    """Of runs by self-certainty, all parameters trained: in how many a success rate fell visibly,
    and in how many of these before the accuracy was below its start."""
    runs = json.loads((DATA / "certainty.json").read_text())["runs"]["certainty"]
    fallen = [x for x in runs if x["fallen"] is not None]
    before = [x for x in fallen if x["below"] is None or x["fallen"] < x["below"]]
    return {"runs": len(runs), "fallen": len(fallen), "before": len(before)}


def numbers() -> dict[str, Any]:
    """As they are in the file."""
    check = json.loads((DATA / "log_check.json").read_text())["intervals"]["10"]["kinds"]
    clusters = json.loads((DATA / "clusters.json").read_text())["correlations"]
    optimised = json.loads((DATA / "optimised.json").read_text())["kinds"]
    own = next(x for x in optimised if x["kind"] == "rlvr")
    ours = own["all"]["factor table"]
    study = read_study()
    kinds = ("majority", "majority_table", "certainty", "certainty_table")
    ends = {kind: int(np.sum(losses(_runs(study, kind), kind).called)) for kind in kinds}
    return {
        "models": int(_runs(study, "rlvr").sizes["base"]),
        "gradient": _of_kind(study, "gradient"),
        "rlvr": _of_kind(study, "rlvr"),
        "optimised": {
            "order": round(own["order"], 2),
            "covered": round(ours["covered"], 2),
            "width": round(ours["width"], 3),
        },
        "ends": ends,
        "answers": _answers(),
        "check": {name: [x["alarms"], x["runs"]] for name, x in check.items()},
        "accuracy_coverage": {
            rho: [when["before"]["accuracy"]["coverage"], when["after"]["accuracy"]["coverage"]]
            for rho, when in clusters.items()
        },
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(numbers(), indent=1) + "\n")

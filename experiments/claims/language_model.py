"""A small language model: what its runs did, and whether the lab had said so.

The claims read the study that is shipped (`python -m experiments.language_model --full` makes it).
"""

import numpy as np
import xarray as xr

from .._claim import DERIVED, Outcome, above, below, computed, mean_and_error
from ..language_model._compare import agreement, coverage, drift, ends, regimes
from ..language_model._results import read_study
from ..language_model._study import KINDS, TUNING
from ..language_model._task import Pattern
from ..tokens import REPORTED
from ._ledger import Context, Subject, once
from ._shared import PAPER

SUBJECT = Subject("A language model")
claim = SUBJECT.claim

_MODELS = "8 transformers of 10^5 parameters on sums, three seeds, 300 steps"
_USUAL, _TABLE = (KINDS[kind].label for kind in ("rlvr", "table"))
_study = once(read_study)


def _of_bases(values: xr.DataArray) -> tuple[float, float]:
    """Mean over base models, and its standard error."""
    return mean_and_error(np.asarray(values.mean([d for d in values.dims if d != "base"])))


@claim(
    id="lm-success-rates-stay-fixed",
    source=PAPER.format("Assumption 5.1"),
    statement="RLVR of a language model moves patterns, while success rates within them stay: "
    "drift sum pi |p - p(0)| of the same questions below .05",
    setting=f"{_MODELS}, {_USUAL}: the largest of the run, mean over models",
)
def _(context: Context) -> Outcome:
    return below(0.05, *_of_bases(drift(_study()).given.sel(kind="rlvr")))


@claim(
    id="lm-rlvr-selects-the-best",
    source=PAPER.format("Thm. 5.3 and 5.4"),
    statement="RLVR ends in the pattern of the highest success rate, from strong and weak starts: "
    "its share above .9",
    setting=f"{_MODELS}, {_USUAL}, last tenth",
)
def _(context: Context) -> Outcome:
    shares = _study()["held_shares"].sel(kind="rlvr").isel(pattern=int(Pattern.WORKED))
    return above(0.9, *_of_bases(shares.isel(look=slice(-3, None))))


@claim(
    id="lm-two-regimes",
    source=PAPER.format("Thm. 5.3 and 5.4"),
    statement="strong starts raise the best pattern only, weak ones a misleading one first: the "
    "models in which exactly the direct answer rises are those that start below its success rate",
    setting=f"{_MODELS}, {_USUAL}: models of which this is so",
)
def _(context: Context) -> Outcome:
    data = _study()
    weak = data["said_accuracy"] < data["said_rates"].isel(way=int(Pattern.DIRECT))
    same = int(np.sum((regimes(data).sel(kind="rlvr") == 1) == weak))
    return computed(data.sizes["base"], same, same == data.sizes["base"])


@claim(
    id="lm-rlif-rises-then-degrades",
    source=PAPER.format("Thm. 5.6 and simulations"),
    statement="under RLIF by self-certainty the accuracy first rises, then falls below its start",
    setting=f"{_MODELS}, {KINDS['certainty'].label}: models of which this is so (highest mean over "
    "seeds above the start by .01)",
)
def _(context: Context) -> Outcome:
    data = _study().sel(kind="certainty")
    curve = data["held_accuracy"].mean("seed")
    start = curve.isel(look=0)
    both = (curve.max("look") > start + 0.01) & (ends(data).mean("seed") < start)
    return computed(data.sizes["base"], int(both.sum()), bool(both.all()))


@claim(
    id="lm-sft-first-cuts-the-slow-phase",
    source="arXiv 2506.04695 v1",
    statement="fine-tuning first cuts the time to 90 % of the final accuracy from weak starts: its "
    "steps and those of RLVR, over those of RLVR alone",
    setting=f"four weakest of {_MODELS}, {TUNING.num_steps} steps of SFT on worked answers, then "
    f"{_USUAL}; below 1",
)
def _(context: Context) -> Outcome:
    times = _study()["times"].median("seed")
    tuned = times.sel(kind="tuned").dropna("base")
    alone = times.sel(kind="rlvr", base=tuned["base"])
    return below(1.0, *mean_and_error(((tuned + TUNING.num_steps) / alone).values))


@claim(
    id="lm-rlvr-changes-few-ranks",
    source=PAPER.format("token-level analysis"),
    statement="RLVR changes the ranking of few tokens: the ratio stays below a tenth "
    f"({REPORTED['GSM8K']['RLVR'][0]} to {REPORTED['GSM8K']['RLVR'][-1]} % on GSM8K)",
    setting=f"{_MODELS}, {_USUAL}, last step",
)
def _(context: Context) -> Outcome:
    return below(0.1, *_of_bases(_study()["token_rank"].sel(kind="rlvr").isel(look=-1)))


@claim(
    id="lm-rlif-changes-more-ranks",
    source=PAPER.format("token-level analysis"),
    statement="RLIF changes more rankings than RLVR: difference of the ratios above 0",
    setting=f"{_MODELS}, {KINDS['certainty'].label} less {_USUAL}, last step",
)
def _(context: Context) -> Outcome:
    ratio = _study()["token_rank"].isel(look=-1)
    return above(0.0, *_of_bases(ratio.sel(kind="certainty") - ratio.sel(kind="rlvr")))


def _forecast_claims(kind: str, ours: bool, notes: tuple[str, str, str]) -> None:
    """What the diagnosis said of a kind of run."""
    setting = f"{_MODELS}, {KINDS[kind].label}; diagnosis of rollouts of each base model alone"

    @claim(
        id=f"lm-regime-{kind}",
        source=DERIVED if ours else _LAB,
        statement="the regime is called right for at least 7 of 8 base models",
        setting=setting,
        ours=ours,
        note=notes[0],
    )
    def _(context: Context) -> Outcome:
        right = agreement(_study(), kind).regimes
        return computed(7, right, right >= 7)

    @claim(
        id=f"lm-order-{kind}",
        source=DERIVED if ours else _LAB,
        statement="times to 90 % of the final accuracy come in the order foretold: rank "
        "correlation of at least .8",
        setting=setting,
        ours=ours,
        note=notes[1],
    )
    def _(context: Context) -> Outcome:
        order = agreement(_study(), kind).order
        return computed(0.8, order, order >= 0.8)

    @claim(
        id=f"lm-band-{kind}",
        source=DERIVED if ours else _LAB,
        statement="with one time scale, fitted to the first tenth of the steps, at least 80 % of "
        "the later accuracies lie in the 90 % band",
        setting=setting,
        ours=ours,
        note=notes[2],
    )
    def _(context: Context) -> Outcome:
        covered = float(coverage(_study().sel(kind=[kind]))["accuracy"].mean())
        return computed(0.8, covered, covered >= 0.8)


_LAB = "docs/language_model.md"

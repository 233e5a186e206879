"""A small language model: what its runs did, and whether the lab had said so.

The claims read the study that is shipped (`python -m experiments.language_model --full` makes it).
"""

import json

import numpy as np
import xarray as xr

from .._lab.claim import Outcome, above, below, computed, mean_and_error
from ..language_model._compare import agreement, coverage, drift, ends, losses, regimes
from ..language_model._results import read_study
from ..language_model._study import KINDS, TUNING
from ..language_model._task import Pattern
from ..language_model.certainty import RESULTS as CERTAINTY
from ..language_model.optimised import RESULTS as OPTIMISED
from ..maps.tokens.known import REPORTED
from ._ledger import Context, Subject, once
from ._shared import PAPER

SUBJECT = Subject("A language model")
claim = SUBJECT.claim

_MODELS = "8 transformers of 10^5 parameters on sums, three seeds, 300 steps"
_USUAL, _TABLE = (KINDS[kind].label for kind in ("rlvr", "table"))
_LAB = "measured, docs/language_model.md"
_study = once(read_study)


def _runs(kind: str) -> xr.Dataset:
    """The runs of a kind, without gaps: means over gaps warn, and whether warnings are ignored is
    not a thread's own."""
    of = KINDS[kind]
    return _study().sel(kind=[kind], base=list(of.bases)).isel(seed=slice(of.seeds))


def _of_bases(values: xr.DataArray) -> tuple[float, float]:
    """Mean over base models, and its standard error."""
    return mean_and_error(np.asarray(values.mean([d for d in values.dims if d != "base"])))


def _at_least(number: int, found: xr.DataArray | int) -> Outcome:
    """So many base models, or more."""
    right = int(np.sum(found))
    return computed(number, right, right >= number)


def _steady(kind: str) -> xr.DataArray:
    """Which models keep their success rates on the same questions."""
    return drift(_runs(kind)).given.sel(kind=kind) < 0.05


_STEADY = "drift sum pi |p - p(0)| of the same questions below .05 in all of the run, 8 models of 8"


@claim(
    id="lm-success-rates-stay-fixed",
    source=PAPER.format("Assumption 5.1"),
    statement=f"RLVR moves patterns, while success rates within them stay: {_STEADY}",
    setting=f"{_MODELS}, {_USUAL}",
    note="In three of the weak models the direct answer learns to carry, all at once, and is then "
    "right whenever the worked one is: what the trunk works out for one pattern serves the other. "
    "By plain gradient no model does (lm-success-rates-stay-fixed-by-gradient).",
)
def lm_success_rates_stay_fixed(context: Context) -> Outcome:
    return _at_least(8, _steady("rlvr"))


@claim(
    id="lm-success-rates-stay-fixed-by-gradient",
    source=_LAB,
    statement=f"the same by plain gradient: {_STEADY}",
    setting=f"{_MODELS}, {KINDS['gradient'].label}",
    ours=True,
)
def lm_success_rates_stay_fixed_by_gradient(context: Context) -> Outcome:
    return _at_least(8, _steady("gradient"))


def _selected(kind: str) -> xr.DataArray:
    """Which models end in the best pattern."""
    shares = _runs(kind)["held_shares"].sel(kind=kind).isel(pattern=int(Pattern.WORKED))
    return shares.isel(look=slice(-3, None)).mean(("seed", "look")) > 0.9


@claim(
    id="lm-rlvr-selects-the-best",
    source=PAPER.format("Thm. 5.3 and 5.4"),
    statement="RLVR ends in the pattern of the highest success rate, from strong and weak starts: "
    "its share above .9 for 8 models of 8",
    setting=f"{_MODELS}, {_USUAL}, last tenth",
    note="The others end at an accuracy above .95 all the same: their direct answer has become as "
    "good as the worked one, and nothing selects between equals (lm-success-rates-stay-fixed), or "
    "they are not there yet. By plain gradient all 8 do "
    "(lm-rlvr-selects-the-best-by-gradient).",
)
def lm_rlvr_selects_the_best(context: Context) -> Outcome:
    return _at_least(8, _selected("rlvr"))


@claim(
    id="lm-rlvr-selects-the-best-by-gradient",
    source=_LAB,
    statement="the same by plain gradient: share of the best pattern above .9 for 8 models of 8",
    setting=f"{_MODELS}, {KINDS['gradient'].label}, last tenth",
    ours=True,
)
def lm_rlvr_selects_the_best_by_gradient(context: Context) -> Outcome:
    return _at_least(8, _selected("gradient"))


@claim(
    id="lm-two-regimes",
    source=PAPER.format("Thm. 5.3 and 5.4"),
    statement="strong starts raise the best pattern only, weak ones a misleading one first: 8 "
    "models of 8 raise the direct answer if and only if they start below its success rate",
    setting=f"{_MODELS}, {_USUAL}",
)
def lm_two_regimes(context: Context) -> Outcome:
    data = _runs("rlvr")
    weak = data["said_accuracy"] < data["said_rates"].isel(way=int(Pattern.DIRECT))
    return _at_least(8, (regimes(data).sel(kind="rlvr") == 1) == weak)


@claim(
    id="lm-rlif-rises-then-degrades",
    source=PAPER.format("Thm. 5.6 and simulations"),
    statement="under RLIF the accuracy first rises and then falls below its start: so in most "
    "models, 5 of 8 or more",
    setting=f"{_MODELS}, {KINDS['certainty'].label}: mean over seeds above its start by .01, later "
    "below it",
    note="Not by selecting a bad pattern, as in the theorem: in six models the best one is "
    "selected, and then its answers are made certain and wrong.",
)
def lm_rlif_rises_then_degrades(context: Context) -> Outcome:
    data = _runs("certainty").sel(kind="certainty")
    curve = data["held_accuracy"].mean("seed")
    start = curve.isel(look=0)
    return _at_least(5, (curve.max("look") > start + 0.01) & (ends(data).mean("seed") < start))


@claim(
    id="lm-sft-first-cuts-the-slow-phase",
    source="arXiv 2506.04695 v1",
    statement="fine-tuning first cuts the steps of RLVR to 90 % of the final accuracy from weak "
    "starts: their ratio to those of RLVR alone is below 1",
    setting=f"four weakest of {_MODELS}, {TUNING.num_steps} steps of SFT on worked answers, then "
    f"{_USUAL}",
    note="The steps of SFT are not counted. With them the sum is longer than RLVR alone in all "
    "four models: by Adam these are hardly slowed by their entanglement.",
)
def lm_sft_first_cuts_the_slow_phase(context: Context) -> Outcome:
    tuned, alone = (
        _runs(kind)["times"].sel(kind=kind).median("seed") for kind in ("tuned", "rlvr")
    )
    return below(1.0, *mean_and_error((tuned / alone.sel(base=tuned["base"])).values))


def _rank(kind: str) -> xr.DataArray:
    """The ranking change ratio at the last step."""
    return _runs(kind)["token_rank"].sel(kind=kind, drop=True).isel(look=-1)


@claim(
    id="lm-rlvr-changes-few-ranks",
    source=PAPER.format("token-level analysis"),
    statement="RLVR changes the ranking of few tokens: the ratio stays below a tenth "
    f"({REPORTED['GSM8K']['RLVR'][0]} to {REPORTED['GSM8K']['RLVR'][-1]} % on GSM8K)",
    setting=f"{_MODELS}, {_USUAL}, last step",
    note="Responses have 5 to 10 tokens here, one of which opens the pattern: what changes is that "
    "one, in nearly every response.",
)
def lm_rlvr_changes_few_ranks(context: Context) -> Outcome:
    return below(0.1, *_of_bases(_rank("rlvr")))


@claim(
    id="lm-rlvr-reranks-few-positions",
    source="arXiv 2605.06241, as summarised",
    statement="RL changes the rank of the sampled token at 1 to 4 % of positions: the ratio stays "
    "below .04",
    setting=f"{_MODELS}, {_USUAL}, last step",
    note="That is of long texts. Responses have 5 to 10 tokens here, one of which opens the pattern"
    " and has another rank in nearly every response: some tenth of all.",
)
def lm_rlvr_reranks_few_positions(context: Context) -> Outcome:
    return below(0.04, *_of_bases(_rank("rlvr")))


@claim(
    id="lm-rlif-changes-more-ranks",
    source=PAPER.format("token-level analysis"),
    statement="RLIF changes more rankings than RLVR: difference of the ratios above 0",
    setting=f"{_MODELS}, {KINDS['certainty'].label} less {_USUAL}, last step",
)
def lm_rlif_changes_more_ranks(context: Context) -> Outcome:
    return above(0.0, *_of_bases(_rank("certainty") - _rank("rlvr")))


_CALLED = {
    "regime": "the regime is called right for at least 7 of 8 base models",
    "order": "times to 90 % of the final accuracy come in the order foretold: rank correlation "
    "of at least .8",
    "band": "with one time scale, fitted to the first tenth of the steps, at least 80 % of the "
    "later accuracies lie in the 90 % band",
    "end": "whether RLIF ends below its start is called right for at least 7 of 8 models",
}


def _forecast(id: str, what: str, kind: str, *, ours: bool = False, note: str = ""):
    """Register a claim on what the diagnosis says of the runs of a kind."""
    setting = f"{_MODELS}, {KINDS[kind].label}; diagnosis of rollouts of each base model alone"
    return claim(id=id, source=_LAB, statement=_CALLED[what], setting=setting, ours=ours, note=note)


def _regime_called(kind: str) -> Outcome:
    return _at_least(7, agreement(_runs(kind), kind).regimes)


def _order_called(kind: str) -> Outcome:
    order = agreement(_runs(kind), kind).order
    return computed(0.8, order, order >= 0.8)


def _band_covers(kind: str) -> Outcome:
    covered = float(coverage(_runs(kind))["accuracy"].mean())
    return computed(0.8, covered, covered >= 0.8)


def _end_called(kind: str) -> Outcome:
    return _at_least(7, losses(_runs(kind), kind).called)


@_forecast("lm-regime-gradient", "regime", "gradient", ours=True)
def lm_regime_gradient(context: Context) -> Outcome:
    return _regime_called("gradient")


@_forecast("lm-order-gradient", "order", "gradient", ours=True)
def lm_order_gradient(context: Context) -> Outcome:
    return _order_called("gradient")


@_forecast("lm-band-gradient", "band", "gradient", ours=True)
def lm_band_gradient(context: Context) -> Outcome:
    return _band_covers("gradient")


@_forecast("lm-regime-rlvr", "regime", "rlvr", ours=True)
def lm_regime_rlvr(context: Context) -> Outcome:
    return _regime_called("rlvr")


@_forecast(
    "lm-order-rlvr",
    "order",
    "rlvr",
    note="Adam divides each step by the size of past gradients, so that the small gradients of an "
    "entangled start do not slow it. With squares remembered for ten steps instead of a thousand "
    "the order is back (lm-order-brief), and by plain gradient it is exact (lm-order-gradient).",
)
def lm_order_rlvr(context: Context) -> Outcome:
    return _order_called("rlvr")


@_forecast("lm-order-brief", "order", "brief", ours=True)
def lm_order_brief(context: Context) -> Outcome:
    return _order_called("brief")


@_forecast(
    "lm-band-rlvr",
    "band",
    "rlvr",
    note="One time scale does not fit Adam, whose speed changes along the run, and the direct "
    "answer that learns leaves the orbit. By plain gradient the band holds (lm-band-gradient).",
)
def lm_band_rlvr(context: Context) -> Outcome:
    return _band_covers("rlvr")


@_forecast("lm-rlif-end-majority", "end", "majority")
def lm_rlif_end_majority(context: Context) -> Outcome:
    return _end_called("majority")


@_forecast("lm-rlif-end-majority-table", "end", "majority_table")
def lm_rlif_end_majority_table(context: Context) -> Outcome:
    return _end_called("majority_table")


@_forecast(
    "lm-rlif-end-certainty",
    "end",
    "certainty",
    note="A loss was said for one model, and all eight lost nearly everything: in six the pattern "
    "foretold is selected, but its answers do not stay right. Where only patterns are trained the "
    "diagnosis is right more often, not always (lm-rlif-end-certainty-table).",
)
def lm_rlif_end_certainty(context: Context) -> Outcome:
    return _end_called("certainty")


@_forecast(
    "lm-rlif-end-certainty-table",
    "end",
    "certainty_table",
    note="Two models end in a pattern other than the one foretold, and H between two equal ones. "
    "The reward is a mean over tokens, the opening token among them, whose certainty grows as the "
    "shares sharpen and counts twice as much in a short response as in a long one: it is not "
    "constant, as the diagnosis takes it to be.",
)
def lm_rlif_end_certainty_table(context: Context) -> Outcome:
    return _end_called("certainty_table")


_OWN = (
    f"{_MODELS}, six ways of RLVR; the run's own optimiser on three measured numbers of the network"
)


@claim(
    id="lm-order-own-optimiser",
    source="measured, docs/language_model.md#by-the-optimiser-that-was-used",
    statement="with the run's own optimiser and nothing fitted, times to 90 % of the final accuracy"
    " come in the order foretold: the least rank correlation over ways of training is above .8",
    setting=_OWN,
    ours=True,
)
def lm_order_own_optimiser(context: Context) -> Outcome:
    least = min(x["order"] for x in json.loads(OPTIMISED.read_text())["kinds"])
    return computed(0.8, least, least >= 0.8)


@claim(
    id="lm-band-own-optimiser",
    source="measured, docs/language_model.md#by-the-optimiser-that-was-used",
    statement="with the run's own optimiser at least 80 % of the later accuracies lie in the 90 % "
    "band, in the worse half of the base models and for every way of training",
    setting=f"{_OWN}, steps 0 to 30 known",
    ours=True,
)
def lm_band_own_optimiser(context: Context) -> Outcome:
    kinds = json.loads(OPTIMISED.read_text())["kinds"]
    halves = ("A to D", "E to H")
    least = min(x[half]["factor table"]["covered"] for x in kinds for half in halves)
    return computed(0.8, least, least >= 0.8)


@claim(
    id="lm-certainty-shows-in-rates",
    source="measured, docs/language_model.md#rlif",
    statement="by self-certainty with all parameters trained, the success rate of some pattern "
    "falls by four standard deviations in every run, 24 of 24",
    setting=f"{_MODELS}, {KINDS['certainty'].label}",
    ours=True,
)
def lm_certainty_shows_in_rates(context: Context) -> Outcome:
    fallen = [
        x["fallen"] is not None for x in json.loads(CERTAINTY.read_text())["runs"]["certainty"]
    ]
    return computed(len(fallen), sum(fallen), all(fallen))

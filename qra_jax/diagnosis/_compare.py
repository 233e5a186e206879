"""Models beside each other on the questions that they share, drawn in pairs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._core.checks import require, whole
from ..objectives._objective import Objective
from ..posteriors._clustered import LEAST_QUESTIONS, ClusteredPosterior, weights_shape
from ..posteriors._posteriors import AbstractPosterior, Prior
from ..posteriors._success import quantiles_of, success_spread
from ..rollouts._rollouts import Rollouts
from ..times._regime import Regime
from ._bands import Band, band
from ._compare_result import Comparison, Quantity
from ._group_size import measured_useful_share, useful_share
from ._model import Model, modelled, rewards_of
from ._pooled import pooled
from ._rlif import ends_of_rlif, why_not_judged
from ._run import drawn, objective_of
from ._solve import ROWS, SETTLED, Solver, Tables, Times
from ._tables import measured_pass_at_k
from ._votes import measured_maj_at_k, shared_mean

_ALONE = np.ones(1)


class _Drawn(NamedTuple):
    """A model, its draws, and what the flow makes of them."""

    rollouts: Rollouts
    model: Model
    tables: Tables
    times: Times


def restricted(rollouts: Rollouts, questions: Sequence[str]) -> Rollouts:
    """The rollouts of some questions, in this order, with the patterns that are used there."""
    place = {name: at for at, name in enumerate(questions)}
    new = np.array([place.get(name, -1) for name in rollouts.questions])
    rows = new[rollouts.question] >= 0
    names, pattern = np.unique(rollouts.pattern[rows], return_inverse=True)

    def kept(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[rows]

    return Rollouts(
        tuple(questions),
        tuple(rollouts.patterns[i] for i in names),
        question=new[rollouts.question[rows]],
        pattern=pattern,
        correct=rollouts.correct[rows],
        count=rollouts.count[rows],
        confidence=kept(rollouts.confidence),
        answer=kept(rollouts.answer),
        answers=rollouts.answers,
        step=kept(rollouts.step),
    )


def shared_questions(models: Sequence[Rollouts]) -> tuple[str, ...]:
    """Names of the questions that every model answered, in the order of the first."""
    sets = [{x.questions[i] for i in np.flatnonzero(x.samples_per_question())} for x in models]
    common = set.intersection(*sets)
    return tuple(name for name in models[0].questions if name in common)


_given = eqx.filter_jit(lambda posterior, keys, weights: jax.vmap(posterior.given)(keys, weights))


def _tables(
    posterior: AbstractPosterior,
    key: PRNGKeyArray,
    weights: Float[np.ndarray, "D Q"],
    patterns: int,
) -> Tables:
    """Draws of given weights of questions, where these are resampled."""
    number, questions = weights.shape
    if isinstance(posterior, ClusteredPosterior):
        pad = posterior.samples.shape[0] - questions
        padded: Array = jnp.asarray(np.pad(weights, ((0, 0), (0, pad))))
        found = _given(posterior, jax.random.split(key, number), padded)
        return Tables(*(np.asarray(x, float)[..., :patterns] for x in found))
    return Tables(*(x[..., :patterns] for x in drawn(posterior, key, number)))


def _quantity(
    name: str, unit: str, more: bool | None, values: Float[np.ndarray, "M D"], questions: int
) -> Quantity:
    with np.errstate(invalid="ignore"):
        less = values[:, None] - values[None]
    # Two that never happen, or happen at once, are equal.
    less = np.where(values[:, None] == values[None], 0, less)
    known = ~np.isnan(less)
    count = np.maximum(known.sum(axis=-1), 1)
    above = ((less > 0).sum(axis=-1) + 0.5 * (less == 0).sum(axis=-1)) / count
    above = np.where(known.any(axis=-1), above, np.nan)
    first = np.full(len(values), np.nan)
    whole_draws = ~np.isnan(values).any(axis=0)
    if more is not None and whole_draws.any():
        good = (values if more else -values)[:, whole_draws]
        top = good == good.max(axis=0)
        first = np.mean(top / top.sum(axis=0), axis=1)
    return Quantity(
        name, unit, more, band(values, axis=1), band(less, axis=2), above, first, questions
    )


def _check(models: Mapping[str, Rollouts], ks: Sequence[int], size: int, draws: int) -> None:
    require(len(models) >= 2, "models", "be at least two", len(models))
    whole(draws, "draws", 20)
    whole(size, "group_size", 2)
    for k in ks:
        whole(k, "ks", 1)


def compare(
    models: Mapping[str, Rollouts],
    *,
    objective: Objective | None = None,
    prior: Prior = Prior(),
    eps: float = 0.1,
    ks: Sequence[int] = (1, 4, 8),
    group_size: int = 8,
    draws: int = 399,
    seed: int = 0,
    max_patterns: int = 16,
) -> Comparison:
    r"""Which of several models to start RL from, and how sure that is.

    All models answer the same questions, whose difficulty they share. So a draw resamples the
    questions once, with the same weights for all models, and differences are those of pairs: what a
    hard question does to both cancels.

    **Arguments:**

    - `models`: name -> `Rollouts`, at least two; of several steps the first counts.
    - `objective`, `prior`, `eps`, `draws`, `seed`, `max_patterns`: as for `diagnose`.
    - `ks`: for pass@k and maj@k, as far as there are samples.
    - `group_size`: of which the share of groups of use is compared.

    **Returns:** a `Comparison`.

    **Raises:** `ValueError` if a number is out of range, or the models share no question.

    ??? example

        ```python
        import jax
        jax.config.update("jax_enable_x64", True)
        import qra_jax as qra
        from qra_jax.diagnosis import compare
        rollouts = qra.read_rollouts("experiments/data/rollouts.jsonl")
        found = compare({"base": rollouts, "again": rollouts}, draws=39)
        print("\n".join(found.summary()))
        ```

    Source: derived in docs/compare.md#pairs.
    """
    _check(models, ks, group_size, draws)
    objective = objective_of(objective, None)
    solver = Solver.of(objective, eps)
    bases = [rollouts.base_model() for rollouts in models.values()]
    questions = shared_questions(bases)
    require(len(questions) > 0, "models", "share at least one question", "none")
    kept = [restricted(base, questions) for base in bases]
    paired = len(questions) >= LEAST_QUESTIONS
    rng = np.random.default_rng([seed, 9])
    parts = [modelled(x, max_patterns) for x in kept]
    shape = min(weights_shape(x.samples.sum(axis=1)) for x in parts) if paired else 1.0
    weights = rng.gamma(shape, 1 / shape, (draws, len(questions)))
    every = []
    for at, (rollouts, model) in enumerate(zip(kept, parts, strict=True)):
        posterior = pooled(model, prior, "fixed", None, paired).posterior
        key = jax.random.fold_in(jax.random.key(seed), at)
        tables = _tables(posterior, key, weights, len(model.patterns))
        every.append(_Drawn(rollouts, model, tables, solver.times(tables, _ALONE)))
    log_times, paths, ends = _ahead(solver, every)
    share = weights if paired else np.ones_like(weights)
    quantities = _now(every, share, ks, group_size, prior, rng, seed)
    quantities |= _later(every, ends, share if paired else None, rng)
    top = paths == paths.max(axis=0)
    patterns = tuple(dict.fromkeys(name for x in parts for name in x.patterns))
    shares, rates = _by_pattern(every, patterns)
    regimes = [[np.mean(x.times.regime == kind) for kind in Regime] for x in every]
    dropped = (len(base) - len(x) for base, x in zip(bases, kept, strict=True))
    return Comparison(
        models=tuple(models),
        questions=questions,
        dropped=tuple(dropped),
        samples=tuple(len(x) for x in kept),
        paired=paired,
        quantities={x.name: x for x in quantities.values()},
        regimes=np.array(regimes),
        patterns=patterns,
        shares=shares,
        rates=rates,
        log_times=log_times,
        accuracy=band(paths, axis=1),
        ahead=np.mean(top / top.sum(axis=0), axis=1),
        notes=tuple(_notes(models, bases, questions, paired)),
        draws=draws,
    )


def _ahead(
    solver: Solver, every: Sequence[_Drawn]
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, "M D T"], Float[np.ndarray, "M D"]]:
    """Accuracies of all models at the same times, and in the end."""
    times = np.concatenate([x.times.log_convergence.ravel() for x in every])
    finite = times[np.isfinite(times)]
    last = max(float(np.quantile(finite, 0.75)) + 2 if finite.size else 0.0, 4.0)
    if solver.beta > 0:
        last = max(last, float(np.log(SETTLED / solver.beta)))
    log_times = np.linspace(-1, last, ROWS)
    paths = np.stack([solver.follow(x.tables, _ALONE, log_times)[0] for x in every])
    if solver.beta > 0:
        return log_times, paths, paths[..., -1]
    return log_times, paths, np.stack([x.tables.values[:, 0].max(axis=-1) for x in every])


def _now(
    every: Sequence[_Drawn],
    weights: Float[np.ndarray, "D Q"],
    ks: Sequence[int],
    size: int,
    prior: Prior,
    rng: np.random.Generator,
    seed: int,
) -> dict[str, Quantity]:
    """What the base models are now."""
    number, found = weights.shape[1], {}
    now = np.stack([x.tables.accuracy[:, 0] for x in every])
    found["now"] = _quantity("accuracy now", "1", True, now, number)
    counts = [(x.model.samples.sum(axis=1), x.model.correct.sum(axis=1)) for x in every]
    for k in ks:
        each = [measured_pass_at_k(k, *pair) for pair in counts]
        values, used = shared_mean(each, weights)
        if k > 1 and used:
            found[f"pass{k}"] = _quantity(f"pass@{k}", "1", True, values, used)
        values, used = shared_mean([measured_maj_at_k(x.rollouts, k, seed) for x in every], weights)
        if k > 1 and used:
            found[f"maj{k}"] = _quantity(f"maj@{k}", "1", True, values, used)
    probs = [np.maximum(x.tables.probs[:, 0], 1e-300) for x in every]
    effective = np.stack([np.exp(-np.sum(x * np.log(x), axis=-1)) for x in probs])
    found["coverage"] = _quantity("patterns in use, effective", "1", None, effective, number)
    values, used = shared_mean([measured_useful_share(*pair, size) for pair in counts], weights)
    if 2 * used < number:
        # Too few samples a question to count: from the beta law of difficulty, not in pairs.
        laws = [success_spread(*pair, prior).draw(rng, len(weights)) for pair in counts]
        values = np.stack([useful_share(quantiles_of(x, 256), size).mean(axis=1) for x in laws])
        used = number
    name = f"groups of {size} of use"
    found["signal"] = _quantity(name, "1", True, values, used)
    return found


def _later(
    every: Sequence[_Drawn],
    ends: Float[np.ndarray, "M D"],
    weights: Float[np.ndarray, "D Q"] | None,
    rng: np.random.Generator,
) -> dict[str, Quantity]:
    """What RL makes of them."""
    number = len(every[0].model.samples)
    found = {"end": _quantity("accuracy in the end", "1", True, ends, number)}
    now = np.stack([x.tables.accuracy[:, 0] for x in every])
    found["gain"] = _quantity("gain by RLVR", "1", None, ends - now, number)
    for name, label in (("convergence", "time to converge"), ("entanglement", "T0")):
        times = np.stack([getattr(x.times, f"log_{name}")[:, 0] for x in every])
        found[name] = _quantity(label, "log time", False, times, number)
    strong = np.stack([x.times.regime[:, 0] == Regime.STRONG for x in every]).astype(float)
    found["strong"] = _quantity("STRONG start", "1", True, strong, number)
    judged = [rewards_of(x.rollouts, x.model) for x in every]
    if all(x is not None and not why_not_judged(x) for x in judged):
        after = [
            ends_of_rlif(rewards, x.tables, _ALONE, number, rng, weights).accuracy
            for rewards, x in zip(judged, every, strict=True)
            if rewards is not None
        ]
        found["rlif"] = _quantity("gain by RLIF", "1", True, np.stack(after) - now, number)
    return found


def _by_pattern(every: Sequence[_Drawn], patterns: tuple[str, ...]) -> tuple[Band, Band]:
    """Shares and success rates by the names of all patterns, `(M, R)`."""
    draws = len(every[0].tables.probs)
    shares = np.zeros((len(every), draws, len(patterns)))
    rates = np.full(shares.shape, np.nan)
    for at, one in enumerate(every):
        columns = [patterns.index(name) for name in one.model.patterns]
        shares[at][:, columns] = one.tables.probs[:, 0]
        rates[at][:, columns] = one.tables.rates[:, 0]
    return band(shares, axis=1), band(rates, axis=1)


def _notes(
    models: Mapping[str, Rollouts],
    bases: Sequence[Rollouts],
    questions: Sequence[str],
    paired: bool,
) -> list[str]:
    lines = []
    for name, rollouts, base in zip(models, models.values(), bases, strict=True):
        missing = len(base.questions) - len(questions)
        if missing:
            lines.append(f"'{name}': {missing} of {len(base.questions)} questions are not shared")
        if len(rollouts.steps) > 1:
            lines.append(f"'{name}': the first of {len(rollouts.steps)} steps is compared")
    if not paired:
        lines.append(
            f"only {len(questions)} questions are shared: they are taken as fixed, and intervals "
            "say nothing of others"
        )
    lines.append(
        "times are those of plain gradient ascent at the same learning rate for every model; "
        "success rates within patterns are taken as fixed"
    )
    return lines

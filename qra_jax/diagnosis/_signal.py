r"""Signal and cost of sampled groups: which say something, how large they should be, which
questions are cold, in band or saturated.

Source: derived in docs/signal.md.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.stats import norm

from .._core.checks import require, whole
from ..posteriors._posteriors import Prior
from ..posteriors._success import SuccessSpread, quantiles_of, success_spread
from ..rollouts._rollouts import Rollouts
from ..training._groups import SampledGroups
from ._bands import band
from ._group_size import (
    GroupMoments,
    check_budget,
    measured_useful_share,
    sizes_within,
    steps_of,
    useful_share,
)
from ._model import Model, as_rollouts, modelled
from ._pooled import pooled, resamples
from ._run import drawn
from ._signal_path import GROUPS, Path, Verifier
from ._signal_result import KLPull, QuestionSignals, Signal, SignalBySize

_DRAWS, _NODES, _FINE, _BLOCK = 99, 128, 512, 256
_FLAT = 0.95  # of the best speed: as good, for all that is known
_SHIFTS = np.linspace(-30, 30, 601)


def question_rates(
    success: Float[np.ndarray, "D N"],
    shares: Float[np.ndarray, "D R"],
    rates: Float[np.ndarray, "D R"],
) -> Float[np.ndarray, "D N R"]:
    r"""Success rates of patterns for questions of given success.

    They are $\sigma(\mathrm{logit}\, p_r + u_q)$ with the difficulty $u_q$ for which $\sum_r \pi_r
    p_{qr}$ is the success, (S1).
    """
    rates = np.clip(rates, 1e-9, 1 - 1e-9)
    base = np.log(rates) - np.log1p(-rates)
    curve = np.einsum("dr,dru->du", shares, _sigmoid(base[..., None] + _SHIFTS))
    curve, success = (np.clip(x, 1e-12, 1 - 1e-12) for x in (curve, success))
    logits = [np.log(x) - np.log1p(-x) for x in (success, curve)]
    # In logits the curve is nearly straight: 601 points are exact to 1e-4.
    shifts = np.stack([np.interp(x, y, _SHIFTS) for x, y in zip(*logits, strict=True)])
    return _sigmoid(base[:, None] + shifts[..., None])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))


class _Draws(NamedTuple):
    """Everything that is drawn: a table, a path and a beta law, and questions to take means over
    (`nodes`, rates of patterns `(D, N, R)`)."""

    path: Path
    rates: Float[np.ndarray, "D R"]
    laws: Float[np.ndarray, "2 D"]
    own: Float[np.ndarray, "D Q"]
    nodes: Float[np.ndarray, "D N R"]
    fine: Float[np.ndarray, "D M"]
    """success of questions now, as many as are cheap"""


def signal_of(
    model: Model,
    prior: Prior,
    sampled: bool,
    path: Path,
    rates: Float[np.ndarray, "D R"],
    groups: SampledGroups,
    verifier: Verifier,
    seed: int,
) -> Signal | None:
    """The signal of groups; None if fewer than two questions have two samples, which alone tell how
    questions differ: a table without questions looks like one question.

    **Arguments:** `model`, `prior`; `sampled`: whether questions are some of many like them;
    `path`, `rates`: of draws of one table for all questions; `groups`, `verifier`; `seed`.
    """
    samples, right = model.samples.sum(axis=1), model.correct.sum(axis=1)
    if np.sum(samples > 1) < 2:
        return None
    number = len(rates)
    some = np.linspace(0, number - 1, min(number, _DRAWS)).round().astype(int)
    path, rates = path._replace(shares=path.shares[some]), rates[some]
    rng = np.random.default_rng([seed, 8])
    spread = success_spread(samples, right, prior)
    laws = spread.draw(rng, len(some))
    own = spread.of_questions(rng, laws)
    nodes, fine = quantiles_of(laws, _NODES), quantiles_of(laws, _FINE)
    if not sampled:
        kept = rng.permutation(len(samples))[:_BLOCK]
        nodes, fine = own[:, kept], own
    of_nodes = question_rates(nodes, path.shares[:, 0], rates)
    every = _Draws(path, rates, laws, own, of_nodes, fine)
    by_size, moments = _by_size(every, spread, groups, verifier)
    success = np.einsum("dtr,dnr->dtn", path.shares, of_nodes)
    later = useful_share(success, groups.group_size, verifier.tpr, verifier.fpr).mean(axis=-1)
    own_moments = moments[groups.group_size]
    weights = np.full(of_nodes.shape[:2], 1 / of_nodes.shape[1])
    assert groups.batch is not None
    now = steps_of(own_moments, path.shares[:, 0], of_nodes, weights, groups.batch, *verifier[:2])
    with np.errstate(divide="ignore", invalid="ignore"):
        dynamic = np.sqrt(now.kept / now.signal)
    return Signal(
        group_size=groups.group_size,
        batch=groups.batch,
        estimator=type(groups.estimator).__name__,
        verifier_errs=verifier[:2] != (1.0, 0.0),
        asked="questions like these" if sampled else "these questions",
        mean=band(laws[0] / laws.sum(axis=0)),
        strength=band(laws.sum(axis=0)),
        by_size=by_size,
        log_times=path.log_times,
        useful=band(later),
        counts=_kinds(success, groups.group_size, verifier).mean(axis=(0, 2)),
        by_question=_by_question(model.questions, every, spread, groups.group_size, verifier),
        dynamic_speed=band(np.where(now.signal > 0, dynamic, np.nan)),
        kl_pull=_kl_pull(every, own_moments, verifier) if verifier.beta > 0 else None,
        misfit=_misfit(by_size, samples),
    )


def _by_size(
    every: _Draws, spread: SuccessSpread, groups: SampledGroups, verifier: Verifier
) -> tuple[SignalBySize, dict[int, GroupMoments]]:
    assert groups.batch is not None
    rollouts = groups.group_size * groups.batch
    sizes = sizes_within(rollouts, groups)
    moments = {size: GroupMoments.of(groups, size) for size in sizes}
    useful = [useful_share(every.fine, size, *verifier[:2]).mean(axis=1) for size in sizes]
    useful = np.stack(useful, axis=1)
    weights = np.full(every.nodes.shape[:2], 1 / every.nodes.shape[1])
    last = max(1, len(every.path.log_times) - 1)  # nothing moves in the end
    steps = [
        [
            steps_of(moments[size], shares, every.nodes, weights, rollouts / size, *verifier[:2])
            for shares in every.path.shares[:, :last].swapaxes(0, 1)
        ]
        for size in sizes
    ]
    signal = np.stack([[x.signal for x in row] for row in steps])  # (N, T, D)
    speed = _speed(every.path, signal)
    mean = speed.mean(axis=0)
    known = bool(np.all(np.isfinite(mean)) and mean.max() > 0)
    best = int(np.argmax(mean)) if known else 0
    each = np.stack([measured_useful_share(spread.samples, spread.right, size) for size in sizes])
    if verifier[:2] != (1.0, 0.0):
        each = np.full(each.shape, np.nan)  # grades of the file are not those of the verifier
    seen = np.sum(~np.isnan(each), axis=1)
    total = np.nansum(each, axis=1)
    measured = np.where(seen > 0, total / np.maximum(seen, 1), np.nan)
    squares = np.nansum((each - measured[:, None]) ** 2, axis=1)
    error = np.where(seen > 1, np.sqrt(squares / np.maximum(seen * (seen - 1), 1)), np.nan)
    with np.errstate(divide="ignore"):
        cost = np.array(sizes) / useful
    return SignalBySize(
        sizes=np.array(sizes),
        useful=band(useful),
        measured=measured,
        questions=seen,
        error=error,
        samples_per_useful=band(cost),
        pace=band(np.stack([row[0].pace for row in steps], axis=1)),
        speed=band(speed),
        best_probs=_best_probs(speed) if known else np.full(len(sizes), np.nan),
        best=sizes[best] if known else 0,
        as_good=tuple(
            s for s, x in zip(sizes, mean, strict=True) if known and x >= _FLAT * mean[best]
        ),
    ), moments


def _best_probs(speed: np.ndarray) -> np.ndarray:
    top = speed == speed.max(axis=1, keepdims=True)
    return np.mean(top / top.sum(axis=1, keepdims=True), axis=0)


def _speed(path: Path, signal: Float[np.ndarray, "N T D"]) -> Float[np.ndarray, "D N"]:
    """Beside the fastest size: one over the number of steps of given length from now to the median
    time of convergence, or at the start where no path is known."""
    root = np.sqrt(np.maximum(signal, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        if len(path.log_times) < 3:
            rate = root[:, 0]
        else:
            logs = np.log(np.maximum(path.shares[:, :-2], 1e-12))
            logs = logs - logs.mean(axis=-1, keepdims=True)
            arcs = np.linalg.norm(np.diff(logs, axis=1), axis=-1).T
            slow = (1 / root[:, :-2] + 1 / root[:, 1:-1]) / 2
            rate = 1 / np.sum(np.where(arcs > 0, slow * arcs, 0), axis=1)
        found = (rate / rate.max(axis=0)).T
    return np.where(np.isfinite(found), found, np.nan)


def _kinds(success: Float[np.ndarray, "*N"], size: int, verifier: Verifier) -> np.ndarray:
    """Whether most groups have no accepted answer, some of both, or no other: `(..., 3)`."""
    accepted = verifier.fpr + (verifier.tpr - verifier.fpr) * success
    cold, saturated = (1 - accepted) ** size > 0.5, accepted**size > 0.5
    return np.stack([cold, ~cold & ~saturated, saturated], axis=-1).astype(float)


def _by_question(
    names: tuple[str, ...], every: _Draws, spread: SuccessSpread, size: int, verifier: Verifier
) -> QuestionSignals:
    """In blocks of questions: rates of all of them would not fit into memory."""
    kinds = []
    for first in range(0, len(names), _BLOCK):
        own = every.own[:, first : first + _BLOCK]
        rates = question_rates(own, every.path.shares[:, 0], every.rates)
        success = np.einsum("dtr,dqr->dtq", every.path.shares, rates)
        success[:, 0] = own
        kinds.append(_kinds(success, size, verifier).mean(axis=0))
    return QuestionSignals(
        names=names,
        samples=spread.samples,
        right=spread.right,
        success=band(every.own),
        useful=useful_share(every.own, size, *verifier[:2]).mean(axis=0),
        kinds=np.concatenate(kinds, axis=1),
    )


def _kl_pull(every: _Draws, moments: GroupMoments, verifier: Verifier) -> KLPull:
    weights = np.full(every.nodes.shape[:2], 1 / every.nodes.shape[1])
    start = np.maximum(every.path.shares[:, 0], 1e-300)
    kl, gain, lost = [], [], []
    for shares in every.path.shares.swapaxes(0, 1):
        success = np.einsum("dr,dnr->dn", shares, every.nodes)
        slopes = shares[:, None] * (every.nodes - success[..., None])
        gradient = np.einsum("dn,dnr->dr", weights, slopes)
        ratio = np.where(shares > 0, np.log(np.where(shares > 0, shares, 1) / start), 0)
        kl.append(np.sum(shares * ratio, axis=-1))
        pull = np.sum(shares * (ratio - kl[-1][:, None]) * gradient, axis=-1)
        useful = useful_share(success, moments.size, *verifier[:2]).mean(axis=-1)
        lost.append(-(1 - useful) * verifier.beta * pull)
        found = steps_of(moments, shares, every.nodes, weights, 1.0, *verifier[:2])
        gain.append(found.pace * np.sum(gradient**2, axis=-1))
    return KLPull(*(band(np.stack(x, axis=1)) for x in (kl, gain, lost)))


def _misfit(by_size: SignalBySize, samples: np.ndarray) -> float:
    allowed = np.flatnonzero(
        (2 * by_size.questions >= len(samples)) & np.isfinite(by_size.measured)
    )
    if not allowed.size:
        return float("nan")
    at = allowed[-1]
    expected = by_size.useful
    # What is known of the law, of the questions, and no less than half a question: if all are
    # alike their standard error is 0.
    known = (expected.high[at] - expected.low[at]) / (2 * norm.ppf(0.95))
    error = np.sqrt(by_size.error[at] ** 2 + known**2 + (0.5 / by_size.questions[at]) ** 2)
    return float((by_size.measured[at] - expected.median[at]) / error)


def group_signal(
    rollouts: Rollouts | tuple[ArrayLike, ArrayLike],
    *,
    groups: SampledGroups = GROUPS,
    prior: Prior = Prior(),
    questions: str = "sampled",
    tpr: float = 1.0,
    fpr: float = 0.0,
    draws: int = 99,
    seed: int = 0,
) -> Signal:
    r"""How many groups of samples are of use, how large they should be, and which questions give
    them, as the base model is now; without a forecast, and so without a solve.

    **Arguments:** `rollouts`, `prior`, `questions`, `seed`: as for `diagnose`; `groups`: of a step,
    with a `batch`: its rollouts are the budget; `tpr`, `fpr`: how often the verifier accepts right
    and wrong answers; `draws`: at least 20.

    **Returns:** a `Signal` of one time, now.

    **Raises:** `ValueError` if an argument is out of range, or fewer than two questions have
    two samples.

    ??? example

        ```python
        from qra_jax.diagnosis import group_signal
        found = group_signal(([[8], [8], [8]], [[0], [3], [8]]), questions="fixed")
        print(found.by_size.useful.median, found.by_question.kinds[0])
        ```

    Source: derived in docs/signal.md.
    """
    check_budget(groups, tpr, fpr)
    whole(draws, "draws", 20)
    model = modelled(as_rollouts(rollouts).base_model(), 16)
    posterior = pooled(model, prior, questions, None).posterior
    tables = drawn(posterior, jax.random.key(seed), draws)
    number = len(model.patterns)
    shares, rates = tables.probs[:, 0, :number], tables.rates[:, 0, :number]
    path = Path(np.array([-np.inf]), shares[:, None])
    found = signal_of(
        model, prior, resamples(model, questions), path, rates, groups, Verifier(tpr, fpr), seed
    )
    must = "have at least 2 samples of each of some questions"
    require(found is not None, "rollouts", must, "one of each")
    assert found is not None
    return found

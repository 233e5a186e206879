r"""Success rates of patterns within questions: as if every question were answered by every pattern.

Source: derived in docs/diagnosis.md#patterns-compared-within-questions.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize

NODES = np.linspace(-4.5, 4.5, 61)
"""Deviations at which a question's own difficulty is summed over."""
LEAST = 10
"""Questions with two patterns at least from which patterns are compared within questions."""
_MOST = 3000
_PRIOR = 5.0  # deviation of a weak normal prior of all coefficients, in logits
_SPREAD_PRIOR = 2.0  # of the logarithm of the spread of questions


class WithinQuestions(NamedTuple):
    r"""Success rates that every pattern would have on all questions.

    - `rates`: `(R,)`, mean over questions by their samples; `compared`: `(R,)`, True where the
      pattern is beside another in enough questions (elsewhere the rate means nothing).
    - `influence`: `(Q, R)`, of the logit of each rate: what a question more or less weight moves it
      by, to first order; its sum over questions is 0.
    - `spread`: the deviation of the questions' own difficulty, in logits, beyond what goes with how
      often they use each pattern.
    """

    rates: Float[np.ndarray, " R"]
    compared: Bool[np.ndarray, " R"]
    influence: Float[np.ndarray, "Q R"]
    spread: float


def _model(parameters, samples, correct, shares):
    """Log likelihood of each question, its gradient, and the posterior mean rates `(Q, R)`."""
    number = samples.shape[1]
    beta, gamma = parameters[:number], parameters[number:-1]
    spread = np.exp(parameters[-1])
    logits = beta + (shares[:, 1:] @ gamma)[:, None]
    logits = logits[..., None] + spread * NODES
    rates = 0.5 * (1 + np.tanh(logits / 2))
    fit = correct[..., None] * logits - samples[..., None] * np.logaddexp(0, logits)
    joint = fit.sum(axis=1) - 0.5 * NODES**2
    most = joint.max(axis=1, keepdims=True)
    mass = np.exp(joint - most)
    total = mass.sum(axis=1, keepdims=True)
    mass /= total
    # Fisher's identity: the gradient of the likelihood is the posterior mean of that of the whole.
    residual = correct[..., None] - samples[..., None] * rates
    each = np.einsum("qrj,qj->qr", residual, mass)
    tilt = spread * np.einsum("qrj,qj,j->q", residual, mass, NODES)
    gradient = np.concatenate(
        [each, shares[:, 1:] * each.sum(axis=1, keepdims=True), tilt[:, None]], axis=1
    )
    likelihood = (most + np.log(total))[:, 0]
    return likelihood, gradient, np.einsum("qrj,qj->qr", rates, mass)


def within_questions(
    samples: Float[np.ndarray, "Q R"], correct: Float[np.ndarray, "Q R"]
) -> WithinQuestions | None:
    r"""A hierarchical logit model with question effects.

    $\mathrm{logit}\, p_{qr} = \beta_r + u_q$, $u_q \sim N(\gamma^\top s_q, \tau^2)$ with $s_q$ the
    shares of patterns in the question's samples: so difficulty may go with the use of patterns, and
    $\beta$ is what differs *within* questions. The rate of a pattern is the mean of
    $\sigma(\beta_r + u_q)$ over questions, given their samples.

    **Arguments:** `samples`, `correct`: `(Q, R)` counts; every question has a sample.

    **Returns:** None where fewer than `LEAST` questions have samples of two patterns.

    Source: Mundlak 1978, Econometrica 46:69; Neuhaus and Kalbfleisch 1998, Biometrics 54:638.
    """
    beside = (samples > 0) & ((samples > 0).sum(axis=1, keepdims=True) > 1)
    compared = beside.sum(axis=0) >= LEAST
    if compared.sum() < 2:
        return None
    totals = samples.sum(axis=1, keepdims=True)
    order = np.argsort(-samples.sum(axis=0), kind="stable")
    shares = (samples / totals)[:, order]
    shares -= (totals * shares).sum(axis=0) / totals.sum()
    some = np.unique(np.linspace(0, len(samples) - 1, _MOST).astype(int))
    number = samples.shape[1]
    scale = np.append(np.full(2 * number - 1, _PRIOR), _SPREAD_PRIOR)
    chosen = samples[some], correct[some], shares[some]

    def loss(parameters):
        likelihood, gradient, _ = _model(parameters, *chosen)
        value = -likelihood.sum() + 0.5 * np.sum((parameters / scale) ** 2)
        return value, -gradient.sum(axis=0) + parameters / scale**2

    pooled = (correct.sum(axis=0) + 0.5) / (samples.sum(axis=0) + 1)
    start = np.concatenate([np.log(pooled / (1 - pooled)), np.zeros(number)])
    found = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-5 * len(some)}).x
    rise = 1e-4
    moves = rise * np.eye(len(found))
    curvature = np.stack([loss(found + x)[1] - loss(found - x)[1] for x in moves]) / (2 * rise)
    _, gradient, means = _model(found, samples, correct, shares)

    # Of very many questions the derivatives come from some.
    totals_of = totals[some]

    def mean_rates(parameters):
        return (totals_of * _model(parameters, *chosen)[2]).sum(axis=0) / totals_of.sum()

    slopes = np.stack([mean_rates(found + x) - mean_rates(found - x) for x in moves]) / (2 * rise)
    rates = (totals * means).sum(axis=0) / totals.sum()
    repeat = len(samples) / len(some)
    through = gradient @ np.linalg.solve(repeat * curvature, slopes)
    direct = totals / totals.sum() * (means - rates)
    influence = (through + direct) / (rates * (1 - rates))
    return WithinQuestions(
        rates, compared, influence - influence.mean(axis=0), float(np.exp(found[-1]))
    )

"""Regularisers: penalties on the policy, apart from its reward."""

import abc
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._core.checks import as_scalar, is_concrete, no_class, require, require_all
from ..policies._means import mean_of
from ..policies._policy import AbstractPolicy, having
from ..policies._two_stage import AbstractTwoStagePolicy, log_ratio, mean_over_samples, score

Kind = Literal["k1", "k2", "k3"]
Place = Literal["reward", "loss"]


class AbstractRegulariser(eqx.Module):
    """A penalty on the policy, subtracted from each question's utility."""

    @property
    def has_interior_optimum(self) -> bool:
        """Whether it can bring a flow to rest at a policy that is not a vertex of the simplex."""
        return True

    @abc.abstractmethod
    def __call__(
        self, policy: AbstractPolicy, reference: AbstractPolicy, held: AbstractPolicy
    ) -> Float[Array, " Q"]:
        """The penalty of each question.

        **Arguments:** `policy`: what is trained; `reference`: what it is compared with; `held`:
        the same policy, a constant in the gradient.

        **Returns:** `(Q,)`, in units of the utility.
        """

    @abc.abstractmethod
    def validate(self, policy: AbstractPolicy, reference: AbstractPolicy) -> None:
        """Raise `ValueError` where the penalty is not defined; looks at concrete values only."""


class FunctionRegulariser(AbstractRegulariser):
    """A user's own penalty, a JAX function of `(policy, reference)` to `(Q,)`.

    `Objective` wraps a plain function in this by itself.
    """

    function: Callable[[AbstractPolicy, AbstractPolicy], Float[Array, " Q"]]

    def __call__(
        self, policy: AbstractPolicy, reference: AbstractPolicy, held: AbstractPolicy
    ) -> Float[Array, " Q"]:
        return self.function(policy, reference)

    def validate(self, policy: AbstractPolicy, reference: AbstractPolicy) -> None:
        pass


Penalty = Callable[..., Float[Array, " Q"]]


def as_regularisers(regularisers: Sequence[Penalty]) -> tuple[AbstractRegulariser, ...]:
    """Each one itself if it is a regulariser, otherwise the function wrapped.

    **Raises:** `TypeError` if one is not callable or a class, or they are not in a tuple or list.
    """
    if not isinstance(regularisers, tuple | list):
        name = getattr(regularisers, "__name__", type(regularisers).__name__)
        raise TypeError(
            "regularisers must be a tuple of penalties (of one: (penalty,), with its comma), got "
            f"{name} alone"
        )
    return tuple(_as_regulariser(one) for one in regularisers)


def _as_regulariser(regulariser: Penalty) -> AbstractRegulariser:
    no_class(regulariser, "regularisers")
    if isinstance(regulariser, AbstractRegulariser):
        return regulariser
    if not callable(regulariser):
        raise TypeError(f"regularisers must be callable, got {regulariser!r}")
    return FunctionRegulariser(regulariser)


def as_strength(strength: ArrayLike, name: str) -> Float[Array, ""]:
    """A finite scalar of at least 0.

    **Raises:** `ValueError` otherwise.
    """
    return as_scalar(strength, name, lambda b: (b >= 0) & (b < jnp.inf), "be at least 0, finite")


class ReverseKL(AbstractRegulariser):
    r"""$\beta \, \mathrm{KL}(\pi \| \pi_{ref})$.

    **Arguments:** `beta`: the strength, at least 0, in units of the reward.

    **Raises:** `ValueError` if `beta` is negative or not finite.

    Source: arXiv 2506.04695, section 3.
    """

    beta: Float[Array, ""]

    def __init__(self, beta: ArrayLike):
        self.beta = as_strength(beta, "beta")

    def __call__(
        self, policy: AbstractPolicy, reference: AbstractPolicy, held: AbstractPolicy
    ) -> Float[Array, " Q"]:
        divergence = policy.kl_as_score(reference, held)
        return self.beta.astype(divergence.dtype) * divergence

    def validate(self, policy: AbstractPolicy, reference: AbstractPolicy) -> None:
        require_finite_kl(policy, reference)


class ForwardKL(AbstractRegulariser):
    r"""$\beta \, \mathrm{KL}(\pi_{ref} \| \pi)$, over patterns and answers.

    Tabular patterns gain $\beta (\pi_{ref}(r) - \pi(r))$. With one question, frozen answers and
    the mean utility they rest at $\pi = \beta \pi_{ref} / (\beta + V - R)$.

    **Arguments:** `beta`: the strength, at least 0, in units of the reward.

    **Raises:** `ValueError` if `beta` is negative or not finite.

    Source: derived in docs/objectives.md#penalty-the-regulariser.
    """

    beta: Float[Array, ""]

    def __init__(self, beta: ArrayLike):
        self.beta = as_strength(beta, "beta")

    def __call__(
        self, policy: AbstractPolicy, reference: AbstractPolicy, held: AbstractPolicy
    ) -> Float[Array, " Q"]:
        every, shared = _shared_mass(reference, reference), _shared_mass(reference, policy)
        divergence = _mean_log_prob(every, reference) - _mean_log_prob(shared, policy)
        lacking = jnp.any(every != shared, axis=(-2, -1))
        divergence = jnp.where(lacking, jnp.inf, divergence)
        return self.beta.astype(divergence.dtype) * divergence

    def validate(self, policy: AbstractPolicy, reference: AbstractPolicy) -> None:
        require_finite_kl(reference, policy, "policy", "reference")


class EntropyBonus(AbstractRegulariser):
    r"""$-\tau H$, with $H = -\sum_r \pi(r|q) \log \pi(r|q)$ the entropy of the patterns.

    Tabular patterns gain $\tau \pi(r) (-\log \pi(r) - H)$; with frozen answers and the mean
    utility they rest at $\pi \propto e^{R/\tau}$. It does not look at the reference.

    **Arguments:** `tau`: the strength, at least 0, in units of the reward per nat.

    **Raises:** `ValueError` if `tau` is negative or not finite.

    Source: derived in docs/objectives.md#penalty-the-regulariser.
    """

    tau: Float[Array, ""]

    def __init__(self, tau: ArrayLike):
        self.tau = as_strength(tau, "tau")

    def __call__(
        self, policy: AbstractPolicy, reference: AbstractPolicy, held: AbstractPolicy
    ) -> Float[Array, " Q"]:
        log_patterns, _ = _log_probs(policy)
        surprise = jnp.where(held.exists, _log_probs(held)[0], 0)
        # The logarithm is held: through it the gradient is 0 on average, but only up to rounding.
        return self.tau.astype(surprise.dtype) * mean_of(jnp.exp(log_patterns), surprise)

    def validate(self, policy: AbstractPolicy, reference: AbstractPolicy) -> None:
        _log_probs(policy)


class KLEstimator(AbstractRegulariser):
    r"""The penalty that an estimator of $\mathrm{KL}(\pi \| \pi_{ref})$ from samples amounts to.

    With $\ell = \log \pi/\pi_{ref}$ of a whole sequence (pattern and answer) drawn from $\pi$:
    $k_1 = \ell$, $k_2 = \ell^2/2$, $k_3 = e^{-\ell} - 1 + \ell$. The samples' scores $s$ are
    weighted by $k$ in the reward and by $dk/d\ell$ in the loss. Infinitely many samples:

    | | in the reward, $E[k s]$ | as a loss, $E[k' s]$ |
    |---|---|---|
    | k1 | that of `ReverseKL` | 0: no penalty |
    | k2 | neither | that of `ReverseKL` |
    | k3 | neither | that of `ForwardKL` |

    **Arguments:**

    - `beta`: the strength, at least 0, in units of the reward.
    - `kind`: `"k1"`, `"k2"` or `"k3"`.
    - `place`: `"reward"`: subtracted from the reward and a constant in the gradient,
      $-\beta E_\pi[\bar k]$; `"loss"`: differentiated with the samples held,
      $-\beta E_{\bar\pi}[k]$.

    **Raises:** `ValueError` if `beta` is negative or not finite, or `kind` or `place` unknown.

    ??? example

        ```python
        import qra_jax as qra
        policy, problem = qra.two_stage([0.05, 0.70, 0.25], [0.9, 0.7, 0.1])
        penalty = qra.objectives.KLEstimator(0.1, "k3", "loss")
        flow = qra.GradientFlow(qra.Objective(qra.Verifiable(), regularisers=(penalty,)), problem)
        end = qra.solve_flow(policy, flow).final_policy  # pi = beta pi_ref / (beta + V - R)
        ```

    Source: Schulman, "Approximating KL divergence" (2020), for the estimators; derived in
    docs/objectives.md#penalty-the-regulariser.
    """

    beta: Float[Array, ""]
    kind: Kind = eqx.field(static=True)
    place: Place = eqx.field(static=True)

    def __init__(self, beta: ArrayLike, kind: Kind, place: Place):
        self.beta = as_strength(beta, "beta")
        for name, value, known in (("kind", kind, Kind), ("place", place, Place)):
            known = get_args(known)
            require(value in known, name, f"be one of {known}", repr(value))
        self.kind = kind
        self.place = place

    @property
    def has_interior_optimum(self) -> bool:
        return (self.kind, self.place) != ("k1", "loss")

    def __call__(
        self, policy: AbstractPolicy, reference: AbstractPolicy, held: AbstractPolicy
    ) -> Float[Array, " Q"]:
        live, still = _factored(policy), _factored(held)
        ratio = log_ratio(still, reference)
        mass = _shared_mass(reference, held)
        if self.kind == "k2":
            penalty = mean_over_samples(still, ratio**2 / 2)
        else:
            penalty = held.kl(reference)
        if self.kind == "k3":
            penalty += jnp.sum(mass, axis=(-2, -1)) - 1

        # So far a constant. What is added is 0, with the gradient E[weight s]; the part of the
        # weight that is pi_ref/pi overflows where pi is small, but E_pi[pi_ref/pi s] = E_ref[s].
        weight, ratios = {
            ("k1", "reward"): (ratio, 0),
            ("k1", "loss"): (None, 0),
            ("k2", "reward"): (ratio**2 / 2, 0),
            ("k2", "loss"): (ratio, 0),
            ("k3", "reward"): (ratio, 1),
            ("k3", "loss"): (None, -1),
        }[self.kind, self.place]
        if weight is not None:
            penalty += score(live, still, weight)
        if ratios:
            penalty += ratios * (_mean_log_prob(mass, policy) - _mean_log_prob(mass, held))
        return self.beta.astype(penalty.dtype) * penalty

    def validate(self, policy: AbstractPolicy, reference: AbstractPolicy) -> None:
        _log_probs(policy)
        require_finite_kl(policy, reference)


def require_finite_kl(
    policy: AbstractPolicy,
    reference: AbstractPolicy,
    lacking: str = "reference",
    having: str = "policy",
) -> None:
    """**Raises:** `ValueError` if the reference lacks something that the policy has.

    `lacking`, `having`: what the two are called.
    """
    if is_concrete(policy, reference):
        require_all(
            policy.kl(reference),
            lambda d: d < jnp.inf,
            lacking,
            f"give every pattern and answer of the {having} a probability above 0 (the KL "
            "divergence is infinite otherwise)",
        )


def _factored(policy: AbstractPolicy) -> AbstractTwoStagePolicy:
    return having(policy, AbstractTwoStagePolicy, "for this penalty")


def _log_probs(policy: AbstractPolicy) -> tuple[Float[Array, "Q R"], Float[Array, "Q R A"]]:
    return _factored(policy).log_probs()


def _shared_mass(reference: AbstractPolicy, policy: AbstractPolicy) -> Float[Array, "Q R A"]:
    """pi_ref(r, a), 0 where the policy has no such sequence."""
    ref_patterns, ref_answers = _log_probs(reference)
    log_patterns, log_answers = _log_probs(policy)
    there = (log_patterns > -jnp.inf)[..., None] & (log_answers > -jnp.inf)
    return jnp.where(there, jnp.exp(ref_patterns[..., None] + ref_answers), 0)


def _mean_log_prob(mass: Float[Array, "Q R A"], policy: AbstractPolicy) -> Float[Array, " Q"]:
    """sum of mass(r, a) log pi(r, a)."""
    log_patterns, log_answers = _log_probs(policy)
    patterns = _sum_of_logs(jnp.sum(mass, axis=-1), log_patterns)
    return patterns + jnp.sum(_sum_of_logs(mass, log_answers), axis=-1)


def _sum_of_logs(weights: Float[Array, "..."], log_probs: Float[Array, "..."]):
    """sum_j w_j log p_j, whose gradient w_j - p_j sum w keeps its digits near a vertex.

    By log odds against the leading entry m, whose own w_m - p_m sum w cancels there:
    log p_m = -log(1 + sum over the others of p_j/p_m).
    """
    index = jnp.argmax(log_probs, axis=-1)
    is_leader = jax.nn.one_hot(index, log_probs.shape[-1], dtype=bool)
    others = (log_probs > -jnp.inf) & ~is_leader
    leading = jnp.take_along_axis(log_probs, index[..., None], axis=-1)
    log_odds = jnp.where(others, jnp.where(others, log_probs, 0) - leading, 0)
    ahead = jnp.log1p(jnp.sum(jnp.where(others, jnp.exp(log_odds), 0), axis=-1))
    return jnp.sum(weights * log_odds, axis=-1) - jnp.sum(weights, axis=-1) * ahead

"""Tokens: what training changes along a response."""

import itertools

import jax.numpy as jnp
import numpy as np

import qra_jax as qra

from .._lab.claim import Outcome, above, below, close, mean_and_error
from ..maps.tokens.compute import Tokens
from ..maps.tokens.known import REPORTED, REWARDS
from ._ledger import Context, Subject, once
from ._shared import CASE, PAPER
from ._solves import CHECK_PROBS, CHECK_RATES, velocity

DERIVED = "derived in docs/derivations.md#policies-over-tokens"

SUBJECT = Subject("Tokens")
claim = SUBJECT.claim

_CHAINS = (
    "24 random chains (quick: 4) of 16 tokens with two forks, pi = (.05, .70, .25), "
    "p = (.9, .7, .1), all columns trained for t = 10^4"
)


@once
def _ends(quick: bool, seed: int) -> dict[str, np.ndarray]:
    """The map of tokens at its last time, `(reward, chain)` each."""
    settings = Tokens(quiet=True, seed=seed, chains=4 if quick else 24, times=3)
    last = settings.compute(lambda number: None).isel(time=-1)
    return {str(key): value.values for key, value in last.items()}


@once
def _chain() -> tuple[qra.policies.MarkovPolicy, qra.policies.MarkovPolicy, qra.Problem]:
    """A random policy of three tokens, another one, and a problem."""
    rng = Context(False, 0, "tokens").rng
    logits = rng.normal(size=(2, 3, 3))
    policy, other = (qra.policies.MarkovPolicy(x, np.array([0]), 5) for x in logits)
    return policy, other, qra.Problem(np.array([1]))


@claim(
    id="two-stages-are-token-columns",
    source=DERIVED,
    statement="a question, its patterns and the answers as tokens, a column each, move exactly as "
    "the table of two stages",
    setting=f"{CASE}, patterns and answers trained: largest difference of velocities",
    ours=True,
)
def two_stages_are_token_columns(context: Context) -> Outcome:
    policy, problem = qra.two_stage(CHECK_PROBS, CHECK_RATES)
    tokens, same = qra.tokens.as_tokens(policy, problem)
    flow = qra.GradientFlow(qra.RLVR(), same, "all")
    params, frozen = flow.split(tokens)
    found = np.asarray(flow.velocity(params, frozen, tokens).logits)
    table = velocity(qra.RLVR(), policy, problem)
    patterns = found[1:4, 0] - np.ravel(table.pattern_logits)
    answers = found[4:, 1:4].T - np.asarray(table.answer_logits)[0]
    return close(0.0, max(np.abs(patterns).max(), np.abs(answers).max()), atol=1e-15)


@claim(
    id="columns-move-by-visits-and-advantage",
    source=DERIVED,
    statement="a token's logit moves at visits times probability times advantage, summed over "
    "positions",
    setting="a random chain of three tokens, five drawn: largest difference of velocities",
    ours=True,
)
def columns_move_by_visits_and_advantage(context: Context) -> Outcome:
    policy, _, problem = _chain()
    flow = qra.GradientFlow(qra.RLVR(), problem, "all")
    params, frozen = flow.split(policy)
    found = np.asarray(flow.velocity(params, frozen, policy).logits)
    columns = np.exp(np.asarray(policy.log_columns()))
    visits = np.asarray(policy.visits())[:, 0]
    later, expected = np.eye(3)[1], np.zeros((3, 3))
    for mass in visits[::-1]:
        now = columns @ later
        expected += (mass[:, None] * columns * (later[None] - now[:, None])).T
        later = now
    return close(0.0, np.abs(found - expected).max(), atol=1e-15)


@claim(
    id="divergence-by-columns",
    source=DERIVED,
    statement="the divergence of whole responses is that of the columns met, summed over positions",
    setting="two random chains of three tokens, five drawn, against the sum over 243 responses",
    ours=True,
)
def divergence_by_columns(context: Context) -> Outcome:
    policy, other, _ = _chain()
    sequences = jnp.asarray(list(itertools.product(range(3), repeat=5)))
    now, then = (np.asarray(one.log_prob(sequences)) for one in (policy, other))
    expected = np.sum(np.exp(now) * (now - then))
    found = qra.tokens.position_change(policy, reference=other).sum()
    return close(expected, float(found), rtol=1e-12)


@claim(
    id="rlvr-changes-few-ranks",
    source=PAPER.format("token-level analysis"),
    statement="RLVR changes the ranking of few tokens: the ratio stays below a tenth "
    f"({REPORTED['GSM8K']['RLVR'][0]} to {REPORTED['GSM8K']['RLVR'][-1]} % on GSM8K)",
    setting=_CHAINS,
    note="The language model's number is not to be expected here: the share of forks is a setting "
    "of the chains.",
)
def rlvr_changes_few_ranks(context: Context) -> Outcome:
    ratio = _ends(context.quick, context.seed)["ratio"]
    return below(0.1, *mean_and_error(ratio[REWARDS.index("RLVR")]))


@claim(
    id="rlif-changes-more-ranks",
    source=PAPER.format("token-level analysis"),
    statement="RLIF changes more rankings than RLVR, in each setting reported: difference of the "
    "ratios above 0",
    setting=f"{_CHAINS}; RLIF: self-certainty, mean over tokens",
)
def rlif_changes_more_ranks(context: Context) -> Outcome:
    ratio = _ends(context.quick, context.seed)["ratio"]
    apart = ratio[REWARDS.index("RLIF")] - ratio[REWARDS.index("RLVR")]
    return above(0.0, *mean_and_error(apart))


@claim(
    id="rlvr-acts-on-few-columns",
    source=DERIVED,
    statement="RLVR is sparse in columns: fewer than a fifth of those met carry 90 % of its change",
    setting=_CHAINS,
    ours=True,
    note="A measurement on these chains, whose forks are few, not a theorem. RLIF, which changes "
    "more rankings, acts on fewer columns still: it moves them further.",
)
def rlvr_acts_on_few_columns(context: Context) -> Outcome:
    share = _ends(context.quick, context.seed)["critical_share"]
    return below(0.2, *mean_and_error(share[REWARDS.index("RLVR")]))

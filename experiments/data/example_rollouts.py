"""The example rollouts of this folder, drawn from a base model of this library.

`python -m experiments.data.example_rollouts` writes them again.
"""

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import qra_jax as qra

DATA = Path(__file__).parent
PATTERNS = ("prose", "numbered_steps", "guess", "python")
_SHARES = (0.62, 0.20, 0.13, 0.05)
_RATES = (0.62, 0.40, 0.10, 0.88)
# Wrong sums are off by this much, each half as often as the one before.
_ERRORS = (10, -10, 1, -1, 2)
_TEXTS = {
    "prose": "Adding {b} to {a} gives {answer}, so the answer is {answer}.",
    "numbered_steps": "1. Add the ones of {a} and {b}.\n2. Add the tens.\n3. It is {answer}.",
    "guess": "It must be {answer}.",
    "python": "```python\nprint({a} + {b})\n```\nThe answer is {answer}.",
}


def base_model(questions: int, key: jax.Array) -> tuple[qra.TabularPolicy, qra.Problem]:
    """A base model that prefers a mediocre pattern and knows a better one, pooled ENTANGLED.

    Questions differ: in difficulty, of which the logits of all success rates have a standard
    deviation of 2, and in each pattern's share and success rate (logits, 0.5 and 0.3).

    **Returns:** policy and problem of 6 answers, of which answer 0 is correct.
    """
    shape = questions, len(PATTERNS)
    keys = jax.random.split(key, 3)
    hard = 2 * jax.random.normal(keys[0], (questions, 1))
    rates = jax.scipy.special.logit(jnp.array(_RATES))[None] - hard
    rates = jax.nn.sigmoid(rates + 0.3 * jax.random.normal(keys[1], shape))
    patterns = jnp.log(jnp.array(_SHARES))[None] + 0.5 * jax.random.normal(keys[2], shape)
    wrong = 0.5 ** jnp.arange(len(_ERRORS))
    wrong = (1 - rates)[:, :, None] * (wrong / wrong.sum())[None, None]
    answers = jnp.log(jnp.concatenate([rates[:, :, None], wrong], axis=-1))
    weights = jnp.full(questions, 1 / questions)
    return qra.TabularPolicy(patterns, answers), qra.Problem(np.zeros(questions, int), weights)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw(questions: int, samples: int, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Patterns, answers and mean log-probabilities of rollouts of a base model, `(Q, S)` each."""
    model, first, second = jax.random.split(key, 3)
    policy, problem = base_model(questions, model)
    log_patterns, log_answers = policy.log_probs()
    shape, question = (questions, samples), jnp.arange(questions)[:, None]
    pattern = jax.random.categorical(first, log_patterns[:, None], shape=shape)
    answer = jax.random.categorical(second, log_answers[question, pattern], shape=shape)
    confidence = qra.objectives.TrajectoryEntropy()(policy, problem)[question, pattern, answer]
    return pattern, answer, confidence


def rollouts(questions: int = 100, samples: int = 16, seed: int = 0) -> list[dict[str, Any]]:
    """One row a rollout: question, pattern, correct, answer, confidence."""
    sums = _sums(questions, seed).sum(axis=1).tolist()
    drawn = _draw(questions, samples, jax.random.key(seed))
    pattern, answer, confidence = map(np.asarray, drawn)
    return [
        {
            "question": f"sum-{q:03d}",
            "pattern": PATTERNS[pattern[q, s]],
            "correct": bool(answer[q, s] == 0),
            "answer": str(_answer(sums[q], int(answer[q, s]))),
            "confidence": round(float(confidence[q, s]), 4),
        }
        for q, s in np.ndindex(pattern.shape)
    ]


def texts(questions: int = 24, samples: int = 8, seed: int = 1) -> list[dict[str, Any]]:
    """One row a question, with lists of texts, answers and scores; patterns are in the texts."""
    drawn = _draw(questions, samples, jax.random.key(seed))
    pattern, answer, _ = map(np.asarray, drawn)
    rows = []
    for q, (a, b) in enumerate(_sums(questions, seed).tolist()):
        given = [_answer(a + b, code) for code in answer[q].tolist()]
        forms = [_TEXTS[PATTERNS[code]] for code in pattern[q]]
        told = zip(forms, given, strict=True)
        rows.append(
            {
                "idx": q,
                "question": f"What is {a} + {b}?",
                "response": [form.format(a=a, b=b, answer=value) for form, value in told],
                "pred": [str(value) for value in given],
                "score": [value == a + b for value in given],
            }
        )
    return rows


def _sums(questions: int, seed: int) -> np.ndarray:
    """Two numbers a question, `(Q, 2)`."""
    return np.random.default_rng(seed).integers(10, 100, (questions, 2))


def _answer(right: int, code: int) -> int:
    return right + (0, *_ERRORS)[code]


def main() -> None:
    """Write both files."""
    jax.config.update("jax_enable_x64", True)
    for name, rows in (("rollouts", rollouts()), ("samples", texts())):
        lines = [json.dumps(row) + "\n" for row in rows]
        (DATA / f"{name}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()

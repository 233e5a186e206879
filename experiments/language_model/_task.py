"""Sums of two numbers, and four ways to write down an answer."""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from ._sample import Format

PLUS, EQUALS, STEP, END, PAD = 10, 11, 12, 13, 14
"""Tokens beyond the digits 0 to 9; `STEP` stands before an answer that was worked out."""
_FIRST_PATTERN = 15
DIGITS = 3
"""Digits of an answer, the units first, as a sum is written down by hand."""


class Pattern(enum.IntEnum):
    """Which way of reasoning the first token after the question opens."""

    WORKED = 0
    """the sum of the units, that of the tens with what is carried, then the answer"""
    DIRECT = 1
    """the answer at once, with nothing carried: right if the units sum to less than 10"""
    SHORTCUT = 2
    """the tens with 1 carried, and 0 for the units: right if they sum to 10"""
    ESTIMATE = 3
    """as `DIRECT`, but the last digit is guessed"""


NUM_PATTERNS = len(Pattern)
NUM_TOKENS = _FIRST_PATTERN + NUM_PATTERNS
OPENINGS = slice(_FIRST_PATTERN, NUM_TOKENS)
"""The tokens that open patterns."""
QUESTION = 6
"""Tokens of a question, `ab+cd=`, each number with its most significant digit first."""
RESPONSE = 1 + 2 + 2 + 1 + DIGITS + 1
"""Tokens of the longest response: opening, two sums of two digits, step, answer, end."""
FORM = Format(END, PAD, RESPONSE)
_PAIRS = np.stack(np.meshgrid(np.arange(100), np.arange(100)), axis=-1).reshape(-1, 2)
_PAIRS = np.random.default_rng(0).permutation(_PAIRS).astype(np.int32)
_SEVENTH = (_PAIRS @ [1, 3]) % 7 == 0
TRAINED, HELD_OUT = _PAIRS[~_SEVENTH], _PAIRS[_SEVENTH]
"""All pairs of numbers to be added, in a random order: those that training draws from, and a
seventh of them that no training sees."""


class Questions(NamedTuple):
    """Questions: their tokens `(N, 6)` and the sums that are right."""

    tokens: Int[Array, "N P"]
    answer: Int[Array, " N"]


def opening(pattern: int) -> int:
    """The token that opens a pattern."""
    return _FIRST_PATTERN + int(pattern)


def _digits(number: Int[Array, "*N"], count: int) -> Int[Array, "*N D"]:
    """Digits, the units first."""
    return jnp.stack([number // 10**place % 10 for place in range(count)], axis=-1)


def questions_of(numbers: Int[Array, "N 2"]) -> Questions:
    """The questions that ask for sums of two numbers below 100."""
    written = _digits(numbers, 2)[..., ::-1]
    ends = jnp.array([PLUS, EQUALS])
    ends = jnp.broadcast_to(ends[None, :, None], (*numbers.shape, 1))
    tokens = jnp.concatenate([written, ends], axis=-1).reshape(numbers.shape[0], -1)
    return Questions(tokens, jnp.sum(numbers, axis=-1))


def draw_numbers(key: PRNGKeyArray, number: int) -> Int[Array, "N 2"]:
    """N pairs of numbers to be added, none of those that are held out."""
    pairs = jnp.asarray(TRAINED)
    return pairs[jax.random.randint(key, (number,), 0, pairs.shape[0])]


def responses(
    key: PRNGKeyArray, numbers: Int[Array, "N 2"], pattern: Int[Array, " N"]
) -> Int[Array, "N L"]:
    """A text of each pattern, padded to one length.

    **Arguments:** `key`: of what is guessed; `numbers`: of the questions; `pattern`: `(N,)`.
    """
    units, tens = jnp.sum(numbers % 10, axis=-1), jnp.sum(numbers // 10, axis=-1)
    total = 10 * tens + units
    guess = jax.random.randint(key, total.shape, 0, 10, jnp.int32)
    says = [total, 10 * tens + units % 10, 10 * (tens + 1), 10 * tens + guess]
    answer = _digits(jnp.stack(says)[pattern, jnp.arange(numbers.shape[0])], DIGITS)
    opened = (_FIRST_PATTERN + pattern)[:, None]
    end, step = (jnp.full_like(opened, token) for token in (END, STEP))
    work = [_digits(units, 2), _digits(tens + units // 10, 2), step]
    worked = jnp.concatenate([opened, *work, answer, end], axis=1)
    rest = jnp.full((numbers.shape[0], RESPONSE - DIGITS - 2), PAD)
    short = jnp.concatenate([opened, answer, end, rest], axis=1)
    return jnp.where((pattern == Pattern.WORKED)[:, None], worked, short)


def answer_of(response: Int[Array, "*N L"]) -> Int[Array, "*N"]:
    """The sum that a response says, -1 if it says none.

    It stands alone between the last `STEP` (or the opening) and the first `END`. What comes after
    the end is not read. A response that never ends says nothing, nor does one that opens no pattern
    or a second one.

    **Arguments:** `response`: `(..., L)` tokens after the question.
    """
    length = response.shape[-1]
    place = jnp.broadcast_to(jnp.arange(length), response.shape)
    ends = response == END
    end = jnp.where(jnp.any(ends, axis=-1), jnp.argmax(ends, axis=-1), length)
    before = place < end[..., None]
    opens = (response >= _FIRST_PATTERN) & before
    well_opened = opens[..., 0] & (jnp.sum(opens, axis=-1) == 1)
    begin = jnp.max(jnp.where((response == STEP) & before, place, 0), axis=-1) + 1
    at = jnp.stack([begin + digit for digit in range(DIGITS)], axis=-1)
    at = jnp.minimum(at, length - 1)
    said = jnp.take_along_axis(response, at, axis=-1)
    alone = (end < length) & (end == begin + DIGITS) & jnp.all(said < 10, axis=-1)
    value = said @ 10 ** jnp.arange(DIGITS)
    return jnp.where(alone & well_opened, value, -1)


def grade(response: Int[Array, "*N L"], answer: Int[Array, "*N"]) -> Bool[Array, "*N"]:
    """Whether a response says the sum that is right, as `answer_of` reads it."""
    return answer_of(response) == answer


def pattern_of(response: Int[Array, "*N L"]) -> Int[Array, "*N"]:
    """The pattern that a response opens, `NUM_PATTERNS` if none."""
    kind = response[..., 0] - _FIRST_PATTERN
    return jnp.where(kind >= 0, kind, NUM_PATTERNS)


def text(tokens: np.ndarray) -> str:
    """Tokens as a person reads them."""
    names = [*"0123456789", "+", "=", ";", ".", "_", *(p.name[0].lower() for p in Pattern)]
    return "".join(names[token] for token in np.asarray(tokens))

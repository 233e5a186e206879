"""Enumerations that travel as arrays of integers."""

import enum
from typing import Any

import numpy as np
from jaxtyping import ArrayLike


class Code(enum.IntEnum):
    """An enumeration whose values results carry as arrays of integers."""

    @classmethod
    def names(cls, codes: ArrayLike) -> Any:
        """The names of codes, in their shape: a string for a scalar, a list for `(Q,)`.

        **Arguments:** `codes`: integers, -1 for invalid input (`"INVALID"`).

        **Returns:** a string, or nested lists of strings.

        **Raises:** `ValueError` for a number that is no code.
        """

        def name(code: int) -> str:
            return "INVALID" if code == -1 else cls(code).name

        return np.vectorize(name, otypes=[object])(np.asarray(codes)).tolist()

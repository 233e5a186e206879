"""A branch of fixed points along a parameter, as data."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import equinox as eqx
import lazy_loader as lazy
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int

from .._core.checks import require
from .._core.codes import Code
from .._core.version import VERSION
from ..flows._status import Status

if TYPE_CHECKING:
    import xarray as xr
else:
    xr = lazy.load("xarray")  # slow to load, and for one method alone


class Special(Code):
    """What happens on a branch between two of its points; -1 stands for nothing."""

    FOLD = 0
    """The branch turns back in the parameter: two fixed points meet and end."""
    BRANCH_POINT = 1
    """Another branch crosses it, as in a pitchfork: a real eigenvalue passes 0 without a fold."""
    HOPF = 2
    """A pair of complex eigenvalues passes the imaginary axis: a cycle is born or ends."""


class Branch(eqx.Module):
    r"""A branch of fixed points, `N` of them, and up to `K` special points on it.

    Rows after the end repeat the last, with `valid` False; without any row all is NaN.

    - `value`: `(N,)`, the parameter.
    - `pattern_probs`: `(N, R)`.
    - `eigenvalues`: `(N, R - 1)`, of the flow on the simplex linearised at the point, real parts
      falling, per unit of time; NaN in place of those of patterns that do not exist.
    - `kind`: `(N,)`, a `Stability`; -1 without any row.
    - `valid`: `(N,)`.
    - `special`: `(K,)`, a `Special`, in the order of the branch; -1 in empty places.
    - `special_value`: `(K,)`, the parameter there; NaN in empty places.
    - `special_probs`: `(K, R)`, the point there; NaN in empty places.
    - `located`: `(K,)`, whether the special point is known to rounding, as folds and branch points
      are; it is interpolated between two rows otherwise: at a Hopf point, or where several
      eigenvalues pass 0 at once.
    - `num_special`: how many there are on the branch, those beyond `K` included.
    - `status`: a `Status`: COMPLETED: a bound was reached; MAX_STEPS: the rows are used up;
      FAILED: no step was short enough to go on; INVALID_INPUT: the start led to no fixed point.
    """

    value: Float[Array, " N"]
    pattern_probs: Float[Array, "N R"]
    eigenvalues: Complex[Array, "N R-1"]
    kind: Int[Array, " N"]
    valid: Bool[Array, " N"]
    special: Int[Array, " K"]
    special_value: Float[Array, " K"]
    special_probs: Float[Array, "K R"]
    located: Bool[Array, " K"]
    num_special: Int[Array, ""]
    status: Int[Array, ""]

    @property
    def fold(self) -> Bool[Array, "*batch K"]:
        """Which of the special points are folds."""
        return self.special == Special.FOLD

    def to_dataset(self, patterns: Sequence[str] | None = None) -> "xr.Dataset":
        """The branch as a labelled `xarray.Dataset` over its rows, its special points and patterns;
        what is not valid, and what is empty, is NaN.

        **Arguments:** `patterns`: R names, for the labels of the axis `pattern`; their indices if
        not given.

        **Returns:** variables `value`, `pattern_prob`, `kind`, `special`, `special_value`,
        `special_pattern_prob` and `located`, the coordinate `pattern`, and the status and the
        library's version as attributes.

        **Raises:** `ValueError` for a batch of branches, or for another number of names.
        """
        require(self.value.ndim == 1, "branch", "be a single one", self.value.shape)
        number = self.pattern_probs.shape[-1]
        names = range(number) if patterns is None else list(patterns)
        require(len(names) == number, "patterns", f"hold {number} names", len(names))
        valid = np.asarray(self.valid)
        table = np.where(valid[:, None], np.asarray(self.pattern_probs), np.nan)
        return xr.Dataset(
            {
                "value": ("row", np.where(valid, np.asarray(self.value), np.nan)),
                "pattern_prob": (("row", "pattern"), table),
                "kind": ("row", np.where(valid, np.asarray(self.kind), -1)),
                "special": ("place", np.asarray(self.special)),
                "special_value": ("place", np.asarray(self.special_value)),
                "special_pattern_prob": (("place", "pattern"), np.asarray(self.special_probs)),
                "located": ("place", np.asarray(self.located)),
            },
            coords={"pattern": names},
            attrs={"status": Status.names(self.status), "version": VERSION},
        )

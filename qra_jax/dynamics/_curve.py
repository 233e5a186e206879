"""The equations of a branch of fixed points, and of the special points on it.

Numbers of equations are those of docs/derivations.md#continuation-along-a-parameter.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._core.roots import value_and_slopes
from ..policies._policy import AbstractPolicy
from ..policies._two_stage import AbstractTablePolicy
from ._field import PatternField, on_face
from ._stability import Linearised, stability

# A parameter has no length beside log-probabilities but one that is chosen.
RANGE = 5.0  # nats that the parameter's whole range counts as, in arc length
LOOKS = 10  # at the equations, that a corrector may take


class Curve(eqx.Module):
    """The equations of a branch in its coordinates z `(R + 1,)`: log-probabilities, and the
    parameter in units in which its range is a few nats."""

    family: Any
    policy: AbstractTablePolicy
    reference: AbstractPolicy
    mask: Bool[Array, " R"]
    origin: Float[Array, ""]
    unit: Float[Array, ""]
    question: int = eqx.field(static=True)

    def value(self, z: Float[Array, "*N Z"]) -> Float[Array, "*N"]:
        return self.origin + self.unit * z[..., -1]

    def field(self, z: Float[Array, " Z"]) -> PatternField:
        flow = self.family(self.value(z))
        return PatternField(flow, self.policy, self.reference, self.question)

    def log_probs(self, z: Float[Array, " Z"]) -> Float[Array, " R"]:
        return on_face(self.mask, z[:-1])

    def equations(self, z: Float[Array, " Z"]) -> Float[Array, " R"]:
        """(C1)."""
        return self.field(z).equations(self.mask, z[:-1])

    def stability(self, z: Float[Array, " Z"]) -> Linearised:
        return stability(self.field(z).measured(), self.mask, self.log_probs(z))

    def on_plane(self, z: Float[Array, " Z"], plane: Float[Array, " Z"], level: Float[Array, ""]):
        """(C2): 0 at the fixed point on a plane across the branch."""
        return jnp.append(self.equations(z), plane @ z - level)

    def special(self, unknowns: Float[Array, " U"], scale: Float[Array, " R"], fold):
        r"""(C4): 0 at a fold or else a branch point, in $(z, \mu, \psi)$, with $\psi$ scaled by
        `scale`."""
        z, slack, left = (
            unknowns[: len(scale) + 1],
            unknowns[len(scale) + 1],
            unknowns[-len(scale) :],
        )
        # At a fold the slack mu is 0; at a branch point psi . F_lambda, with mu one more unknown,
        # as F_z has a rank less there. Forward all the way: half of what reversing a gradient again
        # takes to compile.
        here, slopes = value_and_slopes(self.equations, z)
        across = left @ slopes
        last = jnp.where(fold, slack, across[-1])
        rest = jnp.stack([scale @ left - 1, last])
        return jnp.concatenate([here + slack * left, across[:-1], rest])

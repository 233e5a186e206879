"""Types that many modules share."""

from jaxtyping import Array, Float

Scalar = Float[Array, ""]

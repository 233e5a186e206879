r"""What an optimiser makes of the size of gradients.

Source: derived in docs/training.md#the-factor-table.
"""

import math

import jax.numpy as jnp
import optax

_SIZES = (1e-3, 1e3)
_NEAR = 0.05
_MOST_STEPS = 100


def degree_of(optimiser: optax.GradientTransformation) -> int:
    """How the steps of an optimiser scale with the gradients: 1 if in proportion (plain ascent,
    momentum), 0 if not at all (Adam and its kin).

    It is tried out, with gradients of two very different sizes and their doubles.

    **Raises:** `ValueError` if it is neither, such as where plain gradients are clipped: then steps
    depend on the norm of all gradients of the network, which is not known here.
    """

    def moved(size: float) -> float:
        weights, gradient = jnp.zeros(2), size * jnp.array([1.0, -2.0])
        state = optimiser.init(weights)
        for _ in range(_MOST_STEPS):  # a warm-up may begin with steps of 0
            updates, state = optimiser.update(gradient, state, weights)
            largest = float(jnp.max(jnp.abs(jnp.asarray(updates))))
            if largest > 0:
                return largest
        raise ValueError(f"optimiser must move within {_MOST_STEPS} steps, got no update above 0")

    degrees = [math.log2(moved(2 * size) / moved(size)) for size in _SIZES]
    for degree in (0, 1):
        if all(abs(found - degree) < _NEAR for found in degrees):
            return degree
    raise ValueError(
        "optimiser must move in proportion to gradients (plain, momentum) or independently of their"
        f" size (Adam), got {optimiser!r}, whose steps grow as powers {degrees[0]:.2g} and "
        f"{degrees[1]:.2g} of small and of large gradients: clipping by the norm of all gradients "
        "cannot be foretold without Adam"
    )

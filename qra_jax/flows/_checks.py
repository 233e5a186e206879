"""The checks before a solve that can be made without compiling anything."""

import functools
import warnings

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .._core.checks import instance, require
from ..policies._policy import AbstractPolicy, check_order
from ..policies._problem import Problem
from ._flow import GradientFlow, as_flow


@functools.cache
def _advise_x64() -> None:
    warnings.warn(
        "qra_jax is computing in float32, in which log times beyond about 80 overflow and small "
        "probabilities are lost. For float64, before any computation: "
        'jax.config.update("jax_enable_x64", True)',
        stacklevel=4,
    )


def check_solve(
    policy: AbstractPolicy, flow: GradientFlow | Problem, reference: AbstractPolicy | None
) -> GradientFlow:
    """The flow meant, after all checks that can be made before a compile."""
    check_order(policy, flow, "flow")
    flow = as_flow(flow)
    if reference is not None:
        instance(reference, AbstractPolicy, "reference", "a policy like the one that starts")
        shapes, wanted = (jtu.tree_map(jnp.shape, tree) for tree in (reference, policy))
        require(shapes == wanted, "reference", f"have the shapes of policy, {wanted}", shapes)
    flow.validate(policy, policy if reference is None else reference)
    if not jax.config.read("jax_enable_x64"):
        _advise_x64()
    return flow

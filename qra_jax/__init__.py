"""A differentiable laboratory for the training dynamics of RL on reasoning models.

The names of a first day are here, all others in the namespaces, one a floor: `qra_jax.policies`,
`qra_jax.objectives`, ... Each is loaded when it is first used (`__init__.pyi` is the list), so that
`import qra_jax` and the command line's `--help` do not wait for JAX.
"""

import lazy_loader as lazy

from ._core.version import VERSION as __version__  # noqa: F401

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)

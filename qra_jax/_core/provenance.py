"""How a stored result was made: what whoever repeats it must know."""

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from .version import VERSION

SOLVERS = ("jax", "jaxlib", "diffrax", "equinox", "optimistix")
"""Packages whose version shows in what is computed, down to the last bits."""


def versions(names: Sequence[str] = (*SOLVERS, "numpy")) -> dict[str, str]:
    """Of packages, as they are installed."""
    return {name: importlib.metadata.version(name) for name in names}


def provenance(settings: Mapping[str, Any] | None = None, *, device: Any = None) -> dict[str, Any]:
    """Versions, device and precision of this process, and the settings of a computation.

    **Arguments:**

    - `settings`: what was asked for, as JSON; left out if not given.
    - `device`: the JAX device that computes, the first one if not given.

    **Returns:** `version` (of this library), `versions` (of the packages that results depend on),
    `python`, `device`, `precision` ("float64" or "float32") and `settings`; plain JSON, see
    `as_attributes` for attributes.
    """
    device = jax.devices()[0] if device is None else device
    made = {
        "version": VERSION,
        "versions": versions(),
        "python": platform.python_version(),
        "device": f"{device.platform} ({device.device_kind})",
        "precision": "float64" if jax.config.read("jax_enable_x64") else "float32",
    }
    return made if settings is None else {**made, "settings": dict(settings)}


def as_attributes(made: Mapping[str, Any]) -> dict[str, str]:
    """The same as attributes of labelled data, which are strings: what is nested, as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in made.items()
    }

"""How results were made."""

import json
import platform

import diffrax
import jax
import numpy as np

import qra_jax as qra
from qra_jax.sweep import as_attributes, provenance


def test_what_it_says():
    """Against what the packages say of themselves; the settings only where there are any."""
    made = provenance({"eps": 0.1, "names": ["a"]})
    assert made["version"] == qra.__version__
    assert made["versions"]["diffrax"] == diffrax.__version__
    assert made["versions"]["numpy"] == np.__version__
    assert made["python"] == platform.python_version()
    assert made["precision"] == "float64"
    assert made["device"].startswith(f"{jax.default_backend()} (")
    assert made["settings"] == {"eps": 0.1, "names": ["a"]}
    with jax.enable_x64(False):
        bare = provenance(device=jax.devices()[-1])
    assert bare == {key: x for key, x in made.items() if key != "settings"} | {
        "precision": "float32"
    }


def test_as_attributes():
    """Strings, from which all of it comes back."""
    made = provenance({"eps": 0.1})
    found = as_attributes(made)
    assert all(isinstance(value, str) for value in found.values())
    assert json.loads(found["settings"]) == {"eps": 0.1}
    assert json.loads(found["versions"]) == made["versions"]
    assert found["device"] == made["device"]

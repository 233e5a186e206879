"""Diagnoses that are quick to make."""

import pytest

from qra_jax.diagnosis import _settle

# What is asked of further rollouts themselves is asked in full.
IN_FULL = ("test_open_points.py",)


@pytest.fixture(autouse=True)
def few_futures(request, monkeypatch):
    """Simulating further rollouts takes nine tenths of a diagnosis: a quarter as many here."""
    if request.path.name not in IN_FULL:
        for name, number in (("_FUTURES", 8), ("_WITHIN", 39), ("_SOLVED", 4)):
            monkeypatch.setattr(_settle, name, number)

"""Functions that look like classes."""

import inspect
import re

import qra_jax as qra

PLACES = (qra.objectives, qra.flows, qra.training, qra.policies, qra.tokens, qra.times, qra.laws)


def test_functions_that_look_like_classes():
    """Each says that it is none, and the class that it names is the one it returns."""
    found = {
        name: thing
        for place in PLACES
        for name in place.__all__
        if name[0].isupper() and inspect.isfunction(thing := getattr(place, name))
    }
    assert sorted(found) == ["AccuracyReaches", "RLIF", "RLVR"]
    for name, function in found.items():
        assert "A function, not a class" in function.__doc__
        (named,) = re.findall(r"`isinstance\(x, (\w+)\)`", function.__doc__)
        made = function(0.5) if name != "RLIF" else function(beta=0.5)
        assert isinstance(made, getattr(qra, named))

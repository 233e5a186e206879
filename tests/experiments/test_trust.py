"""What the report says of the studies is what is stored of them."""

import json

from experiments.trust import FILE, numbers


def test_numbers_are_those_of_the_stored_studies():
    """Computed anew from the stored runs and tables."""
    assert json.loads(FILE.read_text()) == numbers()

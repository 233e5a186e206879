"""Mutation testing: small faults, one at a time, and whether the tests that own the code notice."""

"""Portraits: where objectives lead, from everywhere on the simplex of three patterns."""

"""What knows no domain: checks, trees of arrays, floating point, roots."""

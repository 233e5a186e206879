"""The gap between flow and training: step size against group size."""

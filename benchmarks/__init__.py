"""Measured speed and size. One file a comparison: `python -m benchmarks.NAME [--quick]`."""

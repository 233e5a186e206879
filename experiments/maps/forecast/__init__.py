"""Forecasts: sampled GRPO foretold from rollouts and the first tenth of the run."""

"""The two regimes: convergence and entanglement times over the initial policy."""

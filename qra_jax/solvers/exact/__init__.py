r"""Integrable flows along their closed-form orbit.

What the symbols of docs/exact.md are called in the code of this folder; (E1) to (E10) in its
comments are the numbers of the equations there. `log_` marks a natural logarithm. x and tau are in
a unit in the middle of the x at the start, which cancels out of the time. Arrays of patterns have
shape (K, n): n lanes, each a problem of its own.

| symbol | in the code | what it is | unit |
|---|---|---|---|
| $x_i(0)$ | `Orbit.log_start` | $e^{-\theta_i}$ at the start | log |
| $R_i$ | `Orbit.rewards` | reward of a pattern | 1 |
| $f'(V)$ | `Orbit.utility` | slope of the utility, the clock (E10) | 1 |
| $D(q)$ | `_Orbits.log_weights` | weight of a question | log |
| $\tau$ | `Walk.tau` | only in derivatives in rewards | x/reward |
| $\ell$ | `Place.lead` | the leading pattern | mask |
| $w = \log x_\ell$ | `Place.log_lead` | the one unknown | log |
| $g_i$ | `Place.gap` | $x_i - x_\ell$ | x |
| $R_i - R_\ell$ | `Place.rise` | slope of a gap, with its sign turned | 1 |
| $r$ | `Place.residual` | what the root (E3) left | log |
| $y_i$ | `Point.inverse` | $1/x_i$ | 1/x |
| $\pi_i$ | `Point.share` | pattern probability | 1 |
| $\kappa$ | `Point.pace` | largest relative motion of an x | reward/x |
| $p_i$ | `Point.motion` | relative motion of an x over $\kappa$ | 1 |
| $z_1, z_2, z_3$ | `Point.rates` | derivatives of $Z / f'$ in $\kappa \tau$ (E5) | 1 |
| $\kappa h$ | `step` | length of a step | 1 |
| $\Delta t$ | `Taken.amount` | time of a step (E6) | $Z / \kappa$ |
| $t$ | `Clock` | a question's own time, $D(q)\,t$ of the flow | $Z / \kappa$, scaled |
| $a_i$ | `Balance.weights` | weights of an event (E7) | any |
| integrals of (E9) | `Influence.sums` | over the time so far, divided by it | 1/x, 1/reward |
"""

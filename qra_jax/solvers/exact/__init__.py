r"""Integrable flows without time steps.

What the symbols of docs/exact.md are called in the code of this folder; (E1) to (E10) in its
comments are the numbers of the equations there. `log_` marks a natural logarithm. x and tau are in
the orbit's own unit `e^Orbit.log_unit`, which cancels out of the time.

| symbol | in the code | what it is | unit |
|---|---|---|---|
| $x_i(0)$ | `Orbit.log_start` | $e^{-\theta_i}$ at the start | log; of the largest |
| $x_i$ | `State.log_x` | the same on the way | log |
| $R_i$ | `Orbit.rewards` | reward of a pattern | 1 |
| $C$ | `Orbit.log_product` | product of all x | log |
| $f'(V)$ | `Orbit.utility` | slope of the utility, the clock (E10) | 1 |
| $D(q)$ | `_Orbits.log_weights` | weight of a question | log |
| $\tau$ | `Cell.origin` | only at hand-overs, elsewhere d | x/reward |
| $c(\tau)$ | | never formed | |
| $\ell$ | `Cell.before`, `Cell.after` | the leading pattern, before or after an origin | index |
| $d$ | `Place.log_distance` | distance from an origin | log of tau |
| $\pm$ | `side` | -1 before an origin, +1 after it | |
| layer | `Cell.log_width` | width of a hand-over | log of tau |
| $w = \log x_\ell$ | `State.log_lead` | the one unknown | log |
| $\tilde w$ | `Side.log_lead` | its bound from above, a unit | log |
| $g_i$ | `gap`, `_gaps_at` | $x_i - x_\ell$ at an origin | x |
| $n_i$ | `Side.log_unit` | $e^{\tilde w} + g_i$, the unit of $x_i$ | log |
| $q_i$ | `Side.lead` | $e^{\tilde w} / n_i$ | 1 |
| $h_i$ | `rest` = `Side.gap + Side.slope * ratio` | $g_i / n_i$ at a distance | 1 |
| $u = \log E$ | `Seen.log_lead` | $w - \tilde w$, what is solved for | log |
| $X_i$ | `Seen.x` | $x_i / n_i$ | 1 |
| $F, F', F''$ | `value`, `first`, `second` | the equation, derivatives in u | 1 |
| $P$ | `product` | product of up to 8 of the X | 1 |
| $Z = dt/d\tau$ | `Seen.speed`, `log_speed` | $\sum_i 1/x_i$, over $f'(V)$ | $e^{-\tilde w}$, log |
| $e^s$ | `Piece.log_scale` | in $d = e^s \sinh \zeta$ | log of tau |
| $\zeta$ | `Piece.start`, `Piece.stop`, `zeta` | place on a side | 1 |
| | `xi` | place on a piece, in [-1, 1] | 1 |
| $\epsilon$ | `least` | share of a side that is skipped | 1 |
| $dt/d\zeta$ | `Stretch.rates` | times half the piece: $dt/d\xi$ | `e^Stretch.log_unit` |
| $t$ | `log_time` | a question's own time, $D(q)\,t$ of the flow | log of 1/reward |
| $A_j, S$ | | never formed: automatic derivatives | |
"""

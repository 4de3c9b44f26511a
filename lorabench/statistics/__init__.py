"""Statistics: arrays in, numbers out.

The statistical unit is the case (one prompt), never the picture. `pairing` turns pairs into one mean per case,
`intervals` and `resampling` say how sure those means make us, `significance` tests "no difference" without assuming a
distribution, `decisions` turns an interval and a margin into PASS, FAIL or INCONCLUSIVE, and `power` says how many
cases that takes.

A significance level is always one-sided and a confidence level always two-sided. The two belong together as
`significance_level = (1 - confidence_level) / 2`: ask for 0.90 confidence to decide at a level of 5 %.
"""

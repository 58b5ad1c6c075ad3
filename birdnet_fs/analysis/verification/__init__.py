"""Call density and precision of classes from a sample of windows that a person verifies.

A. K. Navine, T. Denton, M. J. Weldy, P. J. Hart 2024, "All thresholds barred: direct estimation of call density in
bioacoustic data", Frontiers in Bird Science 3:1380636, https://doi.org/10.3389/fbirs.2024.1380636: windows are divided
into bins of the score, the same number is verified in every bin, and the share of windows with a call is the sum over
bins of their weight times the share in the bin.

strata    windows of a class -> strata by score, and the windows drawn in each
sample    an analysis -> clips and a sheet to fill in
sheet     the filled sheet -> verdicts by stratum
estimate  verdicts -> call density and precision with intervals
report    the same as a table
"""

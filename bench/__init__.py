"""What Keyfence costs, measured against what cannot be had for less.

`make bench` runs all of it. Every measurement compares two things in one run, in turn,
and prints medians and ratios: times alone mean nothing on a machine that others use.
"""

"""Scripts that measure the package, run from a checkout and not shipped: `python -m benchmarks.speed` and others.

speed     time and memory of one attention, beside what else is installed
certify   the proven error of every op and rule, and on every golden vector
density   conditional expressions, comments, annotations and others in 1,000 lines of code
hops      the functions that one call of `ar.attention` enters
"""

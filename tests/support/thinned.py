"""Core, thinned out: for suites that multiply it by kernels, seeds or faults."""

from attention_ref.oracle.cases.select import select


def thinned(each, whole=""):
    """So many of core's cases for each flag, the smallest; every flag is there, and all cases of one, if asked for."""
    cases = sorted(select("core"), key=lambda case: case.size.queries * case.size.keys)
    found = {}
    for flag in dict.fromkeys(flag for case in cases for flag in case.flags):
        found |= {case.name: case for case in [case for case in cases if flag in case.flags][:each]}
    return [case for case in select("core") if case.name in found or whole in case.flags]

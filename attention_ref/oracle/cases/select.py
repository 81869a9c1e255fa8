"""Which cases a word means: "core", "full", "long", "flag:GQA", a name."""

from attention_ref.errors import OptionError
from attention_ref.op.op import did_you_mean
from attention_ref.oracle.cases import long
from attention_ref.oracle.cases.case import Case
from attention_ref.oracle.cases.suite import CASES


def select(cases):
    """The cases meant by "core", "full", "long", "flag:GQA", a name, several of these with commas, or a list of cases.

    A minus takes away: "core,-flag:GQA".
    """
    found = {}
    for one in words(cases):
        if isinstance(one, Case):
            found[one.name] = one
        elif isinstance(one, str) and one.startswith("-"):
            found = {name: case for name, case in found.items() if case not in named(one[1:], CASES)}
        else:
            found |= {case.name: case for case in named(one, CASES)}
    return list(found.values())


def words(cases):
    """What was given, one by one."""
    return [part.strip() for part in cases.split(",")] if isinstance(cases, str) else list(cases)


def named(selector, known):
    if selector == "long":
        return list(long.CASES.values())
    if isinstance(selector, str) and selector in long.CASES:
        return [long.CASES[selector]]
    if selector in ("core", "full"):
        return [case for case in known.values() if case.core or selector == "full"]
    if isinstance(selector, str) and selector.startswith("flag:"):
        flags = {flag: None for case in known.values() for flag in case.flags}
        flag = selector.removeprefix("flag:")
        if flag not in flags:
            raise OptionError(f"check: there is no flag {flag!r}{did_you_mean(flag, flags)}")
        return [case for case in known.values() if flag in case.flags]
    if selector not in known:
        near = (
            did_you_mean(selector, ["core", "full", "long", *known, *long.CASES]) if isinstance(selector, str) else ""
        )
        near = near if near.startswith("; did") else "; give core, full, long, flag:NAME or the name of a case"
        raise OptionError(f"check: there is no case {selector!r}{near}")
    return [known[selector]]

"""Which cases a word means: "core", "full", "long", "flag:GQA", a name."""

from attention_ref.errors import OptionError
from attention_ref.op.suggest import did_you_mean, suggestion
from attention_ref.oracle.cases import long
from attention_ref.oracle.cases.case import Case
from attention_ref.oracle.cases.suite import CASES


def select(cases):
    """The cases meant by "core", "full", "long", "flag:GQA", a name, several of these with commas, or a list of cases.

    A minus takes away: "core,-flag:GQA".
    """
    selected = {}
    for word in words(cases):
        if isinstance(word, Case):
            selected[word.name] = word
        elif isinstance(word, str) and word.startswith("-"):
            excluded = named(word[1:], CASES)
            selected = {name: case for name, case in selected.items() if case not in excluded}
        else:
            selected |= {case.name: case for case in named(word, CASES)}
    return list(selected.values())


def words(cases):
    """The selectors in `cases`, one by one."""
    if isinstance(cases, str):
        return [part.strip() for part in cases.split(",")]
    return list(cases)


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
        match = suggestion(selector, ["core", "full", "long", *known, *long.CASES])
        advice = f"did you mean {match!r}?" if match else "give core, full, long, flag:NAME or the name of a case"
        raise OptionError(f"check: there is no case {selector!r}; {advice}")
    return [known[selector]]

"""A report as a page of text, 100 columns wide."""

import numpy as np

from attention_ref.op.words import plural, shorten
from attention_ref.oracle.report import sample
from attention_ref.oracle.report.page import COLORS, Page, held
from attention_ref.oracle.report.rerun import WHOLE, broken, words
from attention_ref.oracle.run import sampling
from attention_ref.oracle.run.candidate import RESULTS

SHOWN = 5
FEW_KEYS = 0.5  # the share of detectable keys below which a sample is said to be worth another one in float64
ORDER = ("o", "lse", "alpha", "dq", "dk", "dv")


def page(report, color=False):
    out = Page(color)
    summary(out, report)
    if report.diagnosis is not None:
        diagnosis(out, report)
    for dtype in report.meta["dtypes"]:
        table(out, report, dtype)
    worst_cases(out, report)
    deviations(out, report)
    sampled(out, report)
    remarks(out, report)
    return "\n".join(out.lines)


def summary(out, report):
    meta, counts = report.meta, report.counts()
    word, verdict = ("PASSED", "pass") if report.passed else ("FAILED", "fail")
    runs, cases = len(report.runs), len({run.case for run in report.runs})
    dtypes = " and ".join(meta["dtypes"])
    if not meta["backend"].startswith("numpy "):
        dtypes += f", by {meta['backend']}"
    how_many = plural(cases, "case") if runs == cases else f"{plural(cases, 'case')} in each"
    which = f"{shorten(meta['cases'], 60)}, {held(how_many)}, "
    which += held(f"seed {meta['seed']}") + ", " + held(f"{meta['seconds']:.1f} s")
    called = f" as {meta['preset']}" if meta["preset"] not in (None, meta["candidate"]) else ""
    what = f"{meta['candidate']}{called} against {meta['rule']}, {direction(report)}, in {dtypes} ({which})"
    if not runs or counts["unsupported"] == runs:
        what += "; nothing could be checked"
    out.add(f"  {what}", hang=8, label=word, verdict=verdict)
    numbers = [out.paint(f"{count} {name}", name) for name, count in counts.items() if count]
    out.raw(f"        {' · '.join(numbers)}")


def direction(report):
    """Which of the two were compared, or were to be in a report that did not pass."""
    back = report.meta["backward"] and (not report.passed or compared(report) - {*RESULTS})
    return "forward and backward" if back else "forward only"


def compared(report):
    """The names of all results that were compared."""
    return {c.result for run in report.runs for c in run.results if c.verdict != "unsupported"}


def diagnosis(out, report):
    """What is wrong, and the smallest case that shows it; the catalog's mistakes are looked for in whole cases only."""
    out.add()
    first, *others = report.diagnosis.parts
    out.add(f"Diagnosis: {first}", hang=2)
    for part in others:
        out.add(f"and {part}", 2, 4)
    run = min(report.failures(), key=lambda run: (run.verdict == "error", run.size.queries * run.size.keys))
    steps = {"Next: run the smallest case that shows it by itself": words(report, run)}
    if report.meta["sample"]:
        steps = {
            "Next: run this case whole, at a length at which its mistake may have a name": words(
                report, run, whole=True
            )
        }
        if run.size.keys > WHOLE:
            steps["and if that passes, it takes this length to show it"] = words(report, run)
    for step, line in steps.items():
        out.raw(step)
        for part in broken(line):
            out.raw(f"  {part}")


def table(out, report, dtype):
    runs = [run for run in report.runs if run.dtype == dtype]
    rows = {}
    for run in runs:
        for comparison in run.results:
            rows.setdefault(comparison.result, []).append((comparison, run))
    if not rows:
        return
    out.add()
    out.raw(f"{dtype}, bounded as {runs[0].model}")
    out.raw("  result          checked  known  fail  susp.  unsup.  worst: score    error    ulps     in case")
    for result in sorted(rows, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)):
        out.raw(row(out, result, rows[result]))


def row(out, result, comparison):
    count = {verdict: sum(c.verdict == verdict for c, _ in comparison) for verdict in COLORS}
    checked = len(comparison) - count["unsupported"]
    counts = f"{checked:>7}{count['known']:>7}{count['fail']:>6}{count['suspicious']:>7}{count['unsupported']:>8}"
    line = f"  {result:<16}{counts}"
    seen = [(c.worst, run) for c, run in comparison if c.worst is not None and c.verdict != "known"]
    if seen:
        worst, run = max(seen, key=lambda pair: pair[0].score)
        line += (
            f"         {number(worst.score):<9}{number(worst.error):<9}{number(worst.ulps):<9}{shorten(run.case, 20)}"
        )
    bad = count["fail"] or count["nondeterministic"]
    return out.paint(line, "fail") if bad else line


def worst_cases(out, report):
    failures = report.failures()
    doubtful = [run for run in report.runs if run.verdict == "suspicious"]
    for title, runs in (("Worst cases", failures), ("Suspicious", doubtful)):
        if not runs:
            continue
        out.add()
        out.raw(title)
        for run in spread_out(runs)[:SHOWN]:
            described(out, report, run)
        if len(runs) > SHOWN:
            names = ", ".join(dict.fromkeys(run.case for run in runs if run not in spread_out(runs)[:SHOWN]))
            out.add(f"and {len(runs) - SHOWN} more: {shorten(names, 150)}", 2, 4)
    if doubtful and "float64" not in report.meta["dtypes"]:
        out.raw("  In float64 a mistake stays as large as it is, and rounding does not:")
        for line in broken(words(report, doubtful[0], dtype="float64")):
            out.raw(f"    {line}")


def spread_out(runs):
    """Each kind of case, by its first flag, once before any comes twice."""
    seen, first, rest = set(), [], []
    for run in runs:
        key = run.verdict, run.flags[:1]
        (rest if key in seen else first).append(run)
        seen.add(key)
    return first + rest


def described(out, report, run):
    flags = f"   [{', '.join(run.flags)}]" if run.flags else ""
    out.raw(f"  {run.case} · {run.dtype} · {out.paint(run.verdict, run.verdict)}{flags}")
    out.add(f"Catches: {run.why}", 4, 6)
    wrong = [c for c in run.results if c.verdict == run.verdict]
    if run.trouble and (not wrong or wrong[0].trouble != run.trouble or wrong[0].worst is None):
        out.add(run.sentence, 4, 6)
    for comparison in wrong[:3]:
        if comparison.worst is not None:
            element(out, comparison)
        elif comparison.trouble != run.trouble:
            out.add(comparison.sentence, 4, 6)
    if len(wrong) > 3:
        out.add(f"also wrong: {', '.join(c.result for c in wrong[3:])}", 4)
    if run.stage:
        out.add(run.stage, 4, 6)
    for line in broken(words(report, run)):
        out.raw(f"    {line}")


def element(out, comparison):
    worst = comparison.worst
    name = f"{comparison.result}[{', '.join(map(str, worst.index))}]"
    out.add(f"{name} = {exactly(worst.got)}, expected {exactly(worst.want)}", 4, 6)
    joint = ", " if np.isfinite(worst.error) else "; wrong: "
    where = f"{joint}{comparison.where}" if comparison.place else ""
    out.add(f"{how_far(comparison)}{where}", 6, 6)


def how_far(comparison):
    worst = comparison.worst
    if comparison.band:
        return f"inside its bound, but {number(comparison.band)} times the statistical band"
    if not np.isfinite(worst.error):
        return comparison.sentence
    off = f"off by {number(worst.error)} = {number(worst.ulps)} ulps"
    if not worst.bound:
        return f"off by {number(worst.error)}, where it must be exact"
    made_of = f" (mostly {worst.term})" if worst.term else ""
    return f"{off} = {number(worst.score)} × its bound of {number(worst.bound)}{made_of}"


def deviations(out, report):
    """What the library is known for: what was seen again, and what was not."""
    cases_by_deviation = {}
    for run in report.runs:
        for comparison in run.results:
            for sentence in comparison.known:
                cases_by_deviation.setdefault(sentence, []).append(run.case)
    if cases_by_deviation:
        out.add()
        out.raw("Known deviations")
    for sentence, names in cases_by_deviation.items():
        out.add(f"{sentence}: {counted(names)}", 2, 4)
    if report.meta["vanished"]:
        out.add()
        out.raw("Known deviations that were not seen")
    for sentence in report.meta["vanished"]:
        out.add(sentence, 2, 4)


def counted(names):
    """How many cases, and the first of them."""
    names = list(dict.fromkeys(names))
    more = ", …" if len(names) > 3 else ""
    return f"{plural(len(names), 'case')} ({', '.join(names[:3])}{more})"


def sampled(out, report):
    """What a sample proves, and with which probability a fault is missed."""
    runs = [run for run in report.runs if run.sample]
    if not runs:
        return
    out.add()
    out.raw("What the sample shows, and what it does not")
    for run in runs[:SHOWN]:
        results = [c.result for c in run.results if c.worst is not None]
        if len(runs) == 1:
            sentences = sample.sentences(run.sample, results)
        else:
            sentences = [f"{run.case} · {run.dtype}: {sample.sentence(run.sample, results)}"]
        for sentence in sentences:
            out.add(sentence, 2, 4)
    if len(runs) > SHOWN:
        out.add(f"and {len(runs) - SHOWN} more, each at rows and keys of its own: report.to_json() has them", 2, 4)
    whole = all(sampling.whole(run.sample) for run in runs)
    out.add(sample.ONCE if whole else f"{sample.REST} {sample.ONCE}", 2, 4)
    coarse = []
    for run in runs:
        share = run.sample["detectable_key_share"]
        if run.verdict == "pass" and share and share < FEW_KEYS:
            coarse.append(run)
    if coarse and "float64" not in report.meta["dtypes"]:
        out.raw("  In float64 nearly every key shows that is left out, or taken too much:")
        for line in broken(words(report, coarse[0], dtype="float64")):
            out.raw(f"    {line}")


def remarks(out, report):
    """What was not checked and why, each reason once."""
    cases_by_option, cases_by_trouble = {}, {}
    for run in report.runs:
        for name in run.lacking:
            cases_by_option.setdefault(name, set()).add(run.case)
        if run.verdict == "unsupported" and run.trouble and not run.lacking:
            cases_by_trouble.setdefault(run.trouble, []).append(run.case)
        for comparison in run.results:
            if comparison.verdict == "unsupported" and run.verdict not in ("unsupported", "error"):
                cases_by_trouble.setdefault(comparison.trouble, []).append(run.case)
    if cases_by_option or cases_by_trouble:
        out.add()
        out.raw("Not checked")
    if cases_by_option:
        often = sorted(cases_by_option, key=lambda name: -len(cases_by_option[name]))
        named = ", ".join(held(f"{name}= ({len(cases_by_option[name])})") for name in often)
        total = len(set().union(*cases_by_option.values()))
        out.add(f"{plural(total, 'case')} with options that the candidate does not declare: {named}", 2, 4)
    for trouble, cases in cases_by_trouble.items():
        out.add(f"{trouble.sentence}: {counted(cases)}", 2, 4)
    names = compared(report)
    if report.meta["dlse"] is False and "lse" in names and names & {"dq", "dk"}:
        out.add()
        out.add("The gradient through lse was not checked: the backward does not declare dlse=.", 0, 2)
    unknown = report.meta["unknown"]
    if unknown:
        unused = ", ".join(f"{name}=" for name in unknown)
        options = "options" if len(unknown) > 1 else "option"
        out.add()
        out.add(f"Unused {options} {unused}: ar.attention has no option of that name.", 0, 2)
    if not report.meta["backward"]:
        out.add()
        given = "no backward was given (backward=)"
        own = f"{report.meta['backend'].partition(' ')[0]} has no autodiff, and {given}"
        out.add(f"Forward only: {own if report.meta['preset'] else given}.")


def exactly(x):
    """Decimal and hexadecimal, without the zeros that float.hex appends."""
    if not np.isfinite(x):
        return f"{x:g}"
    mantissa, _, exponent = float(x).hex().partition("p")
    mantissa = mantissa.rstrip("0").removesuffix(".") if "." in mantissa and x else mantissa
    return f"{x:.9g} ({mantissa}p{exponent})"


def number(x):
    """Three digits at most."""
    if x == 0 or not np.isfinite(x):
        return f"{x:g}"
    return f"{x:.2g}" if 0.001 <= abs(x) < 1000 else f"{x:.1e}"

"""The main job in miniature: a correct and a subtly wrong attention are checked against the oracle."""

from pathlib import Path

from attention_ref.demo import candidates, compare, figure

CANDIDATES = {"correct": candidates.correct, "wrong": candidates.wrong}


def run(out="demo"):
    """Check both candidates, write the heatmaps into `out`; (the text to print, were both judged rightly?)."""
    given = compare.inputs()
    want = compare.oracle(**given)
    got = {name: candidate(**given) for name, candidate in CANDIDATES.items()}
    findings = {name: compare.compare(results, want) for name, results in got.items()}
    worst = {found.result: found.worst for found in findings["wrong"]}
    path = write_heatmaps(Path(out), {name: results["alpha"] for name, results in got.items()}, want, worst["alpha"])
    lines = [
        "Two attentions in plain NumPy, forward and backward, against attention_ref in float64.",
        f"Errors are relative to the largest value of each result; up to {compare.TOLERANCE:.0e} passes.",
    ]
    for name in CANDIDATES:
        lines += ["", headline(name, findings[name]), *table(findings[name])]
    lines += ["", *blind_spots(given), "", f"Heatmaps of α and of its error: {path}"]
    judged = all(found.passed for found in findings["correct"]) and not any(found.passed for found in findings["wrong"])
    return "\n".join(lines), judged


def headline(name, findings):
    failed = [found.result for found in findings if not found.passed]
    verdict = f"FAILS in {', '.join(failed)}" if failed else "passes"
    return f"{name}: {verdict}"


def table(findings):
    yield f"  {'result':8}{'shape':14}{'worst error':>11}  {'verdict':9}worst element"
    for found in findings:
        verdict = "ok" if found.passed else f"{'WRONG':9}{element(found)}"
        yield f"  {found.result:8}{found.shape!s:14}{found.error:11.1e}  {verdict}"


def element(found):
    return f"{found.result}[{', '.join(map(str, found.worst))}] = {found.got:.6f}, oracle {found.want:.6f}"


def blind_spots(given):
    """What the wrong candidate passes: the tests its author is likely to have run."""
    own = compare.self_consistency(candidates.wrong, given)
    square = compare.inputs(e=given["k"].shape[-1])
    equal = compare.worst_error(candidates.wrong(**square), compare.oracle(**square))
    return [
        "The wrong one scales by 1/√d_v instead of 1/√d_k. Two usual tests do not see it:",
        f"  its gradients against finite differences of its own output   off by {own:.1e}",
        f"  all five results against the oracle where d_v = d_k          off by {equal:.1e}",
    ]


def write_heatmaps(folder, alphas, want, worst):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "alpha.png"
    figure.draw(path, alphas, want["alpha"], worst[:-2])
    return path

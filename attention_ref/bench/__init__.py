"""The benchmark: every way to compute one attention, side by side in one run, interleaved, with medians and ratios."""

import gc
import json
from pathlib import Path
from statistics import median
from textwrap import wrap
from time import perf_counter, sleep

from attention_ref.bench.contenders import contenders
from attention_ref.bench.machine import limit, rates
from attention_ref.bench.memory import peak
from attention_ref.errors import OptionError
from attention_ref.pipeline.rule import find

OURS = "tiled"
PAUSE, QUICK, SLOW = 0.3, 0.3, 2.0  # seconds
WARM = 16
WIDTH = 100
LEGEND = {
    "plain": 'plain, tiled: ar.attention, tile=None and "auto" (which takes whole matrices too for few scores)',
    "bare NumPy": "bare: a function in NumPy for this case alone, without options and checks",
}


def run(
    rule="scaled_dot", lengths=(512, 2048), dtype="float32", heads=8, width=64, causal=False, backward=True, repeat=5
):
    """A dict that JSON can hold: the machine's rates and, for every length, seconds, ratios and peak bytes by name."""
    for call in contenders(inputs(rule, WARM, dtype, heads, width), rule, causal, backward)[0].values():
        call()  # imports what it needs, which is not to count as its memory
    speeds = rates(dtype)
    out = {"rule": rule, "dtype": dtype, "heads": heads, "width": width, "causal": causal, "backward": backward}
    out["machine"], out["lengths"] = speeds, {}
    for length in lengths:
        found = measure(inputs(rule, length, dtype, heads, width), rule, causal, backward, repeat)
        if rule == "scaled_dot":
            found["limit"] = limit(speeds, heads * length * length / (2 if causal else 1), width, backward)
        out["lengths"][str(length)] = found
    return out


def inputs(rule, length, dtype, heads, width):
    rule = find(rule)
    letters = {letter for argument in rule.arguments.values() for axis in argument.axes for _, letter in axis.terms}
    widths = {letter: width for letter in letters - {"i", "j", "n"}}
    return rule.example(0, dtype, leading=(1, heads), i=length, j=length, **widths)


def measure(arrays, rule, causal, backward, repeat):
    """{"seconds": medians, "range": the least and most, "peak": bytes, "left_out": reasons}, by contender, in turns.

    The peak is that of the first run, with what is compiled in it. Before each turn the threads of the
    last contender get the time to stop waiting for work.
    """
    calls, left_out = contenders(arrays, rule, causal, backward)
    times = {name: [] for name in calls}
    peaks = {name: peak(call) for name, call in calls.items()}
    for _ in range(repeat):
        for name, call in calls.items():
            gc.collect()
            sleep(PAUSE)
            times[name].append(steady(call))
    return {
        "seconds": {name: median(t) for name, t in times.items()},
        "range": {name: [min(t), max(t)] for name, t in times.items()},
        "peak": peaks,
        "left_out": left_out,
    }


def steady(call):
    """Seconds of a call that is repeated, as it is where it is used: threads take a while to spread over the cores.

    One that takes so long that this does not matter is made once.
    """
    seconds = timed(call)
    if seconds > SLOW:
        return seconds
    several(call)
    return median(several(call))


def several(call):
    """The seconds of each of a few calls."""
    taken, total = [], 0.0
    while total < QUICK:
        taken.append(timed(call))
        total += taken[-1]
    return taken


def timed(call):
    start = perf_counter()
    call()
    return perf_counter() - start


def table(result):
    """The result as text."""
    gemm, exp = result["machine"]["gemm"] / 1e9, result["machine"]["exp"] * 1e9
    lines = [heading(result)]
    by = f", by {result['machine']['blas']}" if result["machine"]["blas"] else ""
    lines.append(f"all cores: {gemm:.0f} GFLOP/s in matrix products, {exp:.2f} ns an exponential{by}")
    for length, found in result["lengths"].items():
        lines.append(f"\nL = {length:<14} {'ms':>10}        {'tiled / it':>10} {'peak MiB':>10}")
        ours = found["seconds"][OURS]
        for name, seconds in sorted(found["seconds"].items(), key=lambda pair: pair[1]):
            least, most = found["range"][name]
            about = f"±{(most - least) / 2 / seconds:.0%}" * (least < most)
            peak = found["peak"][name] / 2**20
            lines.append(f"  {name:16} {milliseconds(seconds):>10} {about:>6} {ours / seconds:10.3g} {peak:10.1f}")
        if "limit" in found:
            share = f"{found['limit'] / ours:.0%} of it reached by tiled: products and exponentials alone"
            lines.append(f"  {'the limit':16} {milliseconds(found['limit']):>10}        {share}")
        lines += left_out(found["left_out"])
    return "\n".join([*lines, "", *legend(result)])


def left_out(reasons):
    """Lines that give each reason once."""
    for reason in dict.fromkeys(reasons.values()):
        names = "; ".join(name for name in reasons if reasons[name] == reason)
        yield from wrap(f"left out: {names}: {reason}", WIDTH, initial_indent="  ", subsequent_indent="    ")


def legend(result):
    """What the figures and the names mean."""
    lengths = result["lengths"].values()
    yield "ms: the median of the rounds, ± half of what lies between the fastest and the slowest one"
    yield "tiled / it: how many times as long tiled takes, above 1 is slower than this one"
    for name, text in LEGEND.items():
        if any(name in found["seconds"] for found in lengths):
            yield text
    if not any("limit" in found for found in lengths):
        yield "the limit, products and exponentials alone, is known of scaled_dot only"


def heading(result):
    way = "forward + backward" if result["backward"] else "forward"
    heads = f"{result['heads']} head{'s' * (result['heads'] != 1)} of {result['width']}"
    return f"{result['rule']}, {result['dtype']}, {heads}, {way}" + ", causal" * result["causal"]


def milliseconds(seconds):
    return f"{1e3 * seconds:.0f}" if seconds >= 1 else f"{1e3 * seconds:.3g}"


def check_paths(json_path=None, plot_path=None):
    """Refuse, before anything is measured, what could not be written afterwards."""
    for path in filter(None, (json_path, plot_path)):
        if not Path(path).resolve().parent.is_dir():
            raise OptionError(f"bench: there is no folder {Path(path).parent} to write {Path(path).name} into")
    if plot_path:
        from matplotlib.figure import Figure

        kinds = Figure().canvas.get_supported_filetypes()
        if Path(plot_path).suffix[1:].lower() not in kinds:
            raise OptionError(f"bench: {plot_path} has no ending of a picture: {', '.join(sorted(kinds))}")


def save(result, json_path=None, plot_path=None):
    if json_path:
        with open(json_path, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
    if plot_path:
        from attention_ref.bench.figure import figure

        figure(result, heading(result)).savefig(plot_path)

"""Time and memory of one attention by every way that is installed, interleaved in one run, with medians and ratios.

python -m benchmarks.speed --lengths 512,2048,4096 --json bench.json --plot bench.png
"""

import argparse
import gc
import json
import sys
from pathlib import Path
from statistics import median
from textwrap import wrap
from time import perf_counter, sleep

from attention_ref.errors import OptionError
from attention_ref.pipeline.rule import find
from benchmarks.contenders import contenders
from benchmarks.machine import limit, rates
from benchmarks.memory import peak

OURS = "tiled"
PAUSE = 0.3  # seconds before a turn: LLVM's OpenMP threads spin for 0.2 s after their work (KMP_BLOCKTIME)
QUICK = 0.3  # seconds of calls that are averaged over, and as many before them that are not counted
SLOW = 2.0  # seconds of a call from which on one is enough
WARM = 16  # the length of the first calls, which only import what they need
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
        measured = measure(inputs(rule, length, dtype, heads, width), rule, causal, backward, repeat)
        if rule == "scaled_dot":
            pairs = heads * length * length
            measured["limit"] = limit(speeds, pairs / 2 if causal else pairs, width, backward)
        out["lengths"][str(length)] = measured
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
    machine = result["machine"]
    rates_of_machine = f"all cores: {machine['gemm'] / 1e9:.0f} GFLOP/s in matrix products"
    rates_of_machine += f", {machine['exp'] * 1e9:.2f} ns an exponential"
    if machine["blas"]:
        rates_of_machine += f", by {machine['blas']}"
    lines = [heading(result), rates_of_machine]
    for length, measured in result["lengths"].items():
        lines.append(f"\nL = {length:<14} {'ms':>10}        {'tiled / it':>10} {'peak MiB':>10}")
        ours = measured["seconds"][OURS]
        for name, seconds in sorted(measured["seconds"].items(), key=lambda pair: pair[1]):
            least, most = measured["range"][name]
            spread = f"±{(most - least) / 2 / seconds:.0%}" if least < most else ""
            mebibytes = measured["peak"][name] / 2**20
            lines.append(
                f"  {name:16} {milliseconds(seconds):>10} {spread:>6} {ours / seconds:10.3g} {mebibytes:10.1f}"
            )
        if "limit" in measured:
            reached = f"{measured['limit'] / ours:.0%} of it reached by tiled: products and exponentials alone"
            lines.append(f"  {'the limit':16} {milliseconds(measured['limit']):>10}        {reached}")
        lines += left_out(measured["left_out"])
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
    count = result["heads"]
    heads = "1 head" if count == 1 else f"{count} heads"
    passes = "forward + backward" if result["backward"] else "forward"
    mask = ", causal" if result["causal"] else ""
    return f"{result['rule']}, {result['dtype']}, {heads} of {result['width']}, {passes}{mask}"


def milliseconds(seconds):
    return f"{1e3 * seconds:.0f}" if seconds >= 1 else f"{1e3 * seconds:.3g}"


def check_paths(json_path=None, plot_path=None):
    """Refuse, before anything is measured, what could not be written afterwards."""
    for path in filter(None, (json_path, plot_path)):
        if not Path(path).resolve().parent.is_dir():
            raise OptionError(f"there is no folder {Path(path).parent} to write {Path(path).name} into")
    if plot_path:
        from matplotlib.figure import Figure

        kinds = Figure().canvas.get_supported_filetypes()
        if Path(plot_path).suffix[1:].lower() not in kinds:
            raise OptionError(f"{plot_path} has no ending of a picture: {', '.join(sorted(kinds))}")


def save(result, json_path=None, plot_path=None):
    if json_path:
        with open(json_path, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
    if plot_path:
        from benchmarks.figure import figure

        figure(result, heading(result)).savefig(plot_path)


def arguments(argv):
    parser = argparse.ArgumentParser("python -m benchmarks.speed", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--rule", default="scaled_dot", help="default: scaled_dot")
    add("--lengths", type=counts, default=(512, 2048), metavar="L,L,…", help="default: 512,2048")
    add("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    add("--heads", type=int, default=8, help="default: 8")
    add("--width", type=int, default=64, help="of every head and hidden layer (default: 64)")
    add("--repeat", type=int, default=5, help="rounds, of which the median counts (default: 5)")
    add("--causal", action="store_true", help="with a causal mask")
    add("--forward", action="store_true", help="without backward")
    add("--json", metavar="FILE", help="write the figures to FILE")
    add("--plot", metavar="FILE", help="draw time and memory against L into FILE")
    return parser, parser.parse_args(argv)


def counts(text):
    """Positive integers between commas."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of lengths such as 512,2048")
    return [int(word) for word in words]


def main(argv=None):
    parser, args = arguments(argv)
    size = (args.rule, args.lengths, args.dtype, args.heads, args.width)
    try:
        if min(args.heads, args.width, args.repeat) < 1:
            raise OptionError("--heads, --width and --repeat must be 1 or more")
        check_paths(args.json, args.plot)
        result = run(*size, args.causal, not args.forward, args.repeat)
    except OptionError as error:
        parser.error(str(error))
    print(table(result))
    save(result, args.json, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The conformance matrix: every preset that can run, under each of its rules, in each dtype, forward and backward."""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

from attention_ref.backend import kind
from attention_ref.conformance import libraries
from attention_ref.errors import OptionError

CASES = (
    *("shape-1x1", "shape-1x67", "shape-17x17", "shape-35x35", "width-40x80", "causal", "causal-top-left"),
    *("causal-bottom-right", "causal-bottom-right-tall", "window", "window-dead-rows", "k-lengths", "k-lengths-zero"),
    *("mask-half", "mask-dead-rows", "mask-nothing", "bias", "bias-minus-inf", "bias-dead-rows", "scale"),
    *("scale-negative", "softcap", "softcap-mask", "sink", "gqa", "gqa-causal", "mqa", "values-peaked", "values-huge"),
    *("values-last-key", "poison-nan-mask", "poison-nan-causal", "poison-nan-lengths", "poison-inf-mask", "segments"),
    *("shared-kv", "no-batch"),
)
SMALL = ("shape-17x17", "causal", "mask-half", "mask-dead-rows", "gqa", "values-peaked", "poison-nan-mask")
DTYPES = ("float32", "float64", "float16", "bfloat16")
SECONDS = 900
COMPILED_ONCE = {  # JAX compiles every operation for every shape; what one process compiled, the next one reads
    "JAX_COMPILATION_CACHE_DIR": "{}",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
ORDER = ("error", "fail", "nondeterministic", "suspicious", "known", "pass")
FAINTEST = 1e-4
BEGIN = "<!-- made by: attention-ref matrix --readme README.md --json docs/matrix.json -->"
END = "<!-- end of the matrix -->"


def matrix(cases=CASES, dtypes=None, only="", device=None, jobs=2, seed=0):
    """The matrix as plain data: its rows, the versions, the date."""
    parts = list(wanted(only, dtypes, device))
    start = perf_counter()
    with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(jobs) as pool:
        found = [pool.submit(rows_of, part, cases, device, seed, cache) for part in parts]
        rows = [row for one in found for row in one.result()]
    versions = dict.fromkeys(row["backend"] for row in rows if row.get("backend"))
    return {
        "date": date.today().isoformat(),
        "python": sys.version.partition(" ")[0],
        "versions": list(versions),
        "cases": list(cases),
        "seed": seed,
        "seconds": round(perf_counter() - start),
        "rows": rows,
    }


def joined(parts):
    """One matrix of several, which were made of the same cases, as on machines with and without a GPU."""
    first, *others = parts
    if any((part["cases"], part["seed"]) != (first["cases"], first["seed"]) for part in others):
        raise OptionError("matrix: parts of one matrix have the same cases and the same seed")
    rows = {(row["preset"], row["rule"], row["dtype"]): row for part in parts for row in part["rows"]}
    place = {name: n for n, name in enumerate(libraries.presets())}
    return first | {
        "date": max(part["date"] for part in parts),
        "versions": list(dict.fromkeys(version for part in parts for version in part["versions"])),
        "rows": sorted(rows.values(), key=lambda row: place[row["preset"].partition(" ")[0]]),
    }


def wanted(only, dtypes, device):
    """(preset, rule, dtypes, Keras's backend) for everything that is asked for."""
    for preset in libraries.presets().values():
        if only and not any(preset.name.startswith(one) for one in only.split(",")):
            continue
        for rule in preset.rules:
            tested = [dtype for dtype in preset.dtypes if dtypes is None or dtype in dtypes]
            backends = [name for name in ("torch", "jax", "tensorflow") if find_spec(name)]
            for below in backends if preset.backend == "keras" and backends else [""]:
                if tested:
                    yield preset, rule, tested, below


def rows_of(part, cases, device, seed, cache):
    """The rows of one preset under one rule, checked in a process of its own."""
    preset, rule, dtypes, below = part
    name = preset.name + f" ({below})" * bool(below)
    heads = [{"preset": name, "rule": rule, "dtype": dtype} for dtype in dtypes]
    package = kind(preset.backend)
    reason = ""
    if not package.installed():
        reason = f"{package.package} is not installed"
    elif not below:
        reason = libraries.available(preset, preset.device or device)
    if reason:
        return [head | {"verdict": reason} for head in heads]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, "-m", "attention_ref", "check", preset.name, "--rule", rule]
        command += ["--cases", ",".join(cases), "--dtypes", ",".join(dtypes), "--seed", str(seed), "--json", str(path)]
        command += ["--device", device] if device and not preset.device else []
        place = Path(__file__).parents[2]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])}
        environment |= {"KERAS_BACKEND": below} if below else {}
        environment = {name: value.format(cache) for name, value in COMPILED_ONCE.items()} | environment
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment)
        except subprocess.TimeoutExpired:
            return [head | {"verdict": f"not finished after {SECONDS} s", "unfinished": True} for head in heads]
        if not path.exists():
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            return [head | {"verdict": "error", "unfinished": True, "reason": last} for head in heads]
        report = json.loads(path.read_text(encoding="utf-8"))
    return [head | row_of(report, head["dtype"]) for head in heads]


def row_of(report, dtype):
    """One dtype of a report: both directions, the known deviations, the cases that are neither."""
    runs = [run for run in report["runs"] if run["dtype"] == dtype]
    forward, backward = (direction(runs, back) for back in (False, True))
    bad = [verdict for verdict in (forward["verdict"], backward["verdict"]) if verdict in ORDER]
    known = {sentence for run in runs for found in run["results"] for sentence in found["known"]}
    findings = [run["case"] for run in runs if run["verdict"] in ("error", "fail", "nondeterministic", "suspicious")]
    return {
        "backend": report["backend"],
        "model": runs[0]["model"],
        "verdict": min(bad, key=ORDER.index, default="nothing could be checked"),
        "forward": forward,
        "backward": backward,
        "known": sorted(known),
        "vanished": report["vanished"],
        "findings": findings,
        "seconds": round(sum(run["seconds"] for run in runs), 1),
    }


def direction(runs, back):
    """How many cases, the worst score and ulps of what passed, and the verdict."""
    found = [(run, x) for run in runs for x in run["results"] if (x["result"] not in ("o", "lse", "alpha")) == back]
    checked = [(run, x) for run, x in found if x["verdict"] != "unsupported"]
    verdicts = {x["verdict"] for _, x in checked} | {"error" for run in runs if run["verdict"] == "error"}
    if not verdicts:
        return {"verdict": "–", "cases": 0, "score": None, "ulps": None}
    passed = [x["worst"] for _, x in checked if x["verdict"] in ("pass", "suspicious") and x["worst"]]
    worst = max(passed, key=lambda one: one["score"], default={"score": None, "ulps": None})
    return {
        "verdict": min(verdicts, key=ORDER.index),
        "cases": len({run["case"] for run, _ in checked}),
        "score": worst["score"],
        "ulps": worst["ulps"],
    }


def markdown(data):
    """The matrix as a Markdown table with its footnotes: a line for each function and rule, a column for each dtype."""
    sentences = list(dict.fromkeys(one for row in data["rows"] for one in row.get("known", ())))
    dtypes = [dtype for dtype in DTYPES if any(row["dtype"] == dtype for row in data["rows"])]
    lines = [
        f"{data['date']}, Python {data['python']}, {', '.join(data['versions'])}; {len(data['cases'])} cases, "
        f"seed {data['seed']}. A cell has the forward above the backward: the verdict, the worst error of what "
        "is no known deviation in units of its bound, and in ulps of the same element.",
        "",
        f"| function | rule | {' | '.join(dtypes)} | cases | known |",
        "|---" * (len(dtypes) + 4) + "|",
    ]
    groups = {}
    for row in data["rows"]:
        groups.setdefault((row["preset"], row["rule"]), {})[row["dtype"]] = row
    for (preset, rule), rows in groups.items():
        cells = [cell_of(rows[dtype]) if dtype in rows else "" for dtype in dtypes]
        known = {sentence for row in rows.values() for sentence in row.get("known", ())}
        numbers = ", ".join(f"[{n}]" for n, sentence in enumerate(sentences, start=1) if sentence in known)
        cases = max(row["forward"]["cases"] if "forward" in row else 0 for row in rows.values()) or ""
        lines.append(f"| `{preset}` | {rule} | {' | '.join(cells)} | {cases} | {numbers} |")
    lines += [""] + [f"{number}. {sentence}" for number, sentence in enumerate(sentences, start=1)]
    return "\n".join(lines).rstrip()


def cell_of(row):
    """The cell of one dtype: forward above backward."""
    if "forward" not in row:
        return row["verdict"]
    return f"{cell(row['forward'])}<br>{cell(row['backward'])}"


def cell(found):
    score = "" if found["score"] is None else f" {three_digits(found['score'])} · {three_digits(found['ulps'])} ulps"
    return f"{found['verdict']}{score}"


def three_digits(x):
    return x if isinstance(x, str) else f"{x:.2g}" if x < 100 or x >= 1e6 else f"{x:.0f}"


def placed(readme, text):
    """A README with the matrix in its place."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the README has no place for the matrix")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def figure(data):
    """(figure, axes): a heatmap of the worst scores of what is no known deviation; findings are marked."""
    import numpy as np
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(f"{row['preset']} · {row['rule']}" for row in data["rows"]))
    dtypes = [dtype for dtype in DTYPES if any(row["dtype"] == dtype for row in data["rows"])]
    columns = [(dtype, side) for dtype in dtypes for side in ("forward", "backward")]
    grid = np.full((len(names), len(columns)), np.nan)
    canvas = Figure(figsize=(4.2 + 0.75 * len(columns), 1.6 + 0.26 * len(names)), layout="constrained")
    axes = canvas.add_subplot()
    axes.set_facecolor("0.88")
    for row in data["rows"]:
        for side in ("forward", "backward"):
            found = row.get(side, {"verdict": "not run", "score": None})
            place = names.index(f"{row['preset']} · {row['rule']}"), columns.index((row["dtype"], side))
            if found["score"] is not None:
                grid[place] = max(found["score"], FAINTEST)
            mark = {"known": "k", "pass": "", "suspicious": "?", "–": "–", "not run": "not run"}.get(
                found["verdict"], "!"
            )
            dark = found["score"] is not None and found["score"] < 0.1
            axes.text(*place[::-1], mark, ha="center", va="center", color="white" if dark else "black", fontsize=7)
    image = axes.imshow(
        np.log10(grid), aspect="auto", interpolation="nearest", cmap="viridis", vmin=np.log10(FAINTEST), vmax=0
    )
    bar = canvas.colorbar(image, ax=axes, label="worst error / bound, known deviations left out", shrink=0.6)
    ticks = [float(tick) for tick in np.arange(np.log10(FAINTEST), 1)]
    bar.set_ticks(ticks, labels=[f"{10.0**tick:g}" for tick in ticks])
    axes.set_xticks(range(len(columns)), [f"{dtype}\n{side}" for dtype, side in columns], fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.tick_params(top=True, labeltop=True, length=0)
    title = "k: a known deviation is there too · !: a finding · ?: suspicious · –: it has none · gray: not checked"
    axes.set_title(title, fontsize=8, loc="left")
    return canvas, axes

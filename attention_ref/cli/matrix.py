"""`attention-ref matrix`: what it takes, and what it writes."""

import json
from pathlib import Path

from attention_ref.errors import OptionError


def add_matrix(add):
    add.add_argument("--small", action="store_true", help="a few cases only")
    add.add_argument("--only", default="", metavar="NAMES", help="presets that start so, with commas: torch,jax")
    add.add_argument("--dtypes", metavar="DTYPES", help="dtypes with commas (default: all that a preset has)")
    add.add_argument("--device", metavar="NAME", help="where the frameworks compute: cpu, cuda")
    add.add_argument("--jobs", type=int, default=2, metavar="N", help="presets at once (default: 2)")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument(
        "--from", dest="source", metavar="FILES", help="run nothing: read the matrix, or parts of it, from JSON"
    )
    add.add_argument("--json", metavar="FILE", help="write the matrix as JSON")
    add.add_argument("--figure", metavar="FILE", help="draw the matrix")
    add.add_argument("--readme", metavar="FILE", help="put the table in its place in a README")
    add.set_defaults(run=run_matrix)


def run_matrix(options):
    """0 if every cell is a pass or a known deviation, 1 if not, 3 if nothing could be checked."""
    from attention_ref.conformance import matrix

    if options.source:
        data = matrix.joined([json.loads(Path(one).read_text(encoding="utf-8")) for one in options.source.split(",")])
    else:
        data = matrix.matrix(
            matrix.SMALL if options.small else matrix.CASES,
            options.dtypes and options.dtypes.split(","),
            options.only,
            options.device,
            options.jobs,
            options.seed,
        )
    text = matrix.markdown(data)
    print(text)
    if options.json:
        Path(options.json).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.figure:
        matrix.figure(data)[0].savefig(options.figure, dpi=150)
    if options.readme:
        put(Path(options.readme), text)
    for row in data["rows"]:
        if row.get("findings"):
            print(f"finding: {row['preset']} {row['rule']} {row['dtype']}: {', '.join(row['findings'])}")
    for preset, sentence in gone(data["rows"]):
        print(f"no longer seen: {preset}: {sentence}")
    return status(data)


def gone(rows):
    """(preset, sentence) of what is known of a preset and was seen in none of its rows."""
    seen = {(row["preset"].partition(" ")[0], sentence) for row in rows for sentence in row.get("known", ())}
    known = [(row["preset"].partition(" ")[0], sentence) for row in rows for sentence in row.get("vanished", ())]
    return [pair for pair in dict.fromkeys(known) if pair not in seen]


def put(path, text):
    from attention_ref.conformance.matrix import placed

    try:
        path.write_text(placed(path.read_text(encoding="utf-8"), text), encoding="utf-8")
    except ValueError as error:
        raise OptionError(f"{path}: {error}") from None


def status(data):
    checked = [row for row in data["rows"] if "forward" in row]
    broken = [row for row in data["rows"] if row["verdict"].startswith(("error", "not finished"))]
    if not checked:
        return 3
    return 1 if broken or any(row["findings"] for row in checked) else 0

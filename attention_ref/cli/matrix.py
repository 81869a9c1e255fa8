"""`attention-ref matrix`: check every preset that can run here, and write the table of how the libraries do."""

import json
from pathlib import Path

from attention_ref.conformance import matrix
from attention_ref.errors import OptionError

PASSED, FAILED, NOTHING_CHECKED = 0, 1, 3


def add_arguments(parser):
    add = parser.add_argument
    add("--small", action="store_true", help="a few cases only")
    add("--only", default="", metavar="NAMES", help="presets that start so, with commas: torch,jax")
    add("--dtypes", metavar="DTYPES", help="dtypes with commas (default: all that a preset has)")
    add("--device", metavar="NAME", help="where the frameworks compute: cpu, cuda")
    add("--jobs", type=int, default=2, metavar="N", help="presets at once (default: 2)")
    add("--seed", type=int, default=0)
    add("--from", dest="source", metavar="FILES", help="run nothing: read the matrix, or parts of it, from JSON")
    add("--json", metavar="FILE", help="write the matrix as JSON")
    add("--figure", metavar="FILE", help="draw the matrix")
    add("--readme", metavar="FILE", help="put the table in its place in a README")


def run(args):
    """0 if every cell is a pass or a known deviation, 1 if not, 3 if nothing could be checked."""
    data = joined(args.source) if args.source else measured(args)
    text = matrix.markdown(data)
    print(text)
    if args.json:
        Path(args.json).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if args.figure:
        matrix.figure(data)[0].savefig(args.figure, dpi=150)
    if args.readme:
        put(Path(args.readme), text)
    for row in data["rows"]:
        if row.get("findings"):
            print(f"finding: {row['preset']} {row['rule']} {row['dtype']}: {', '.join(row['findings'])}")
    for preset, sentence in gone(data["rows"]):
        print(f"no longer seen: {preset}: {sentence}")
    return status(data)


def joined(files):
    """The matrix whose parts are in these files, with commas between their names."""
    return matrix.joined([json.loads(Path(file).read_text(encoding="utf-8")) for file in files.split(",")])


def measured(args):
    cases = matrix.SMALL if args.small else matrix.CASES
    dtypes = args.dtypes.split(",") if args.dtypes else None
    return matrix.matrix(cases, dtypes, args.only, args.device, args.jobs, args.seed)


def gone(rows):
    """(preset, sentence) of what is known of a preset and was seen in none of its rows."""
    seen = {(row["preset"].partition(" ")[0], sentence) for row in rows for sentence in row.get("known", ())}
    known = [(row["preset"].partition(" ")[0], sentence) for row in rows for sentence in row.get("vanished", ())]
    return [pair for pair in dict.fromkeys(known) if pair not in seen]


def put(path, text):
    """Put the table in its place in a page."""
    try:
        path.write_text(matrix.placed(path.read_text(encoding="utf-8"), text), encoding="utf-8")
    except ValueError as error:
        raise OptionError(f"{path}: {error}") from None


def status(data):
    checked = [row for row in data["rows"] if "forward" in row]
    if not checked:
        return NOTHING_CHECKED
    unfinished = any(row.get("unfinished") for row in data["rows"])
    return FAILED if unfinished or any(row["findings"] for row in checked) else PASSED

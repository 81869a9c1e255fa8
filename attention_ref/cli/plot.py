"""`attention-ref plot FILE`: draw the weights in a file."""

import sys
import warnings
from pathlib import Path

import numpy as np

from attention_ref.cli import weight_files
from attention_ref.errors import OptionError, ShapeError
from attention_ref.plot.describe import text
from attention_ref.plot.drawing import checks
from attention_ref.plot.drawing.figures import FORMATS, save
from attention_ref.plot.grids import OVER, heads, layers
from attention_ref.plot.heatmap import heatmap
from attention_ref.plot.model import entropy, flow, rollout
from attention_ref.plot.rows import rows
from attention_ref.plot.tokens import arcs
from attention_ref.plot.training import training

WHOLE = ("layers", "entropy", "rollout", "flow")
KINDS = ("heatmap", "heads", *WHOLE, "rows", "arcs", "text", "training")
AXES = "layer (or step), head, query and key"


def add_arguments(parser):
    parser.add_argument("file", metavar="FILE", help=f".npy, .npz or .safetensors: up to four axes, {AXES}")
    parser.add_argument("--name", help="which array of the file; all of them, one a layer, unless given")
    parser.add_argument("--tokens", metavar='FILE|"a b c"', help="the keys' labels: a file, one a line, or words")
    parser.add_argument("--query-tokens", metavar='FILE|"a b c"', help="the queries' labels, if they are others")
    parser.add_argument("--heads", help="which heads, as 0,3,5")
    parser.add_argument("--layer", type=int, help="which layer")
    parser.add_argument("--query", type=int, default=0, help="which query, for rows")
    parser.add_argument("--batch", type=int, help="which entry of a batch axis longer than one")
    parser.add_argument("--reduce", choices=tuple(OVER), help="combine the heads")
    parser.add_argument("--kind", choices=KINDS, help="what to draw; by the number of axes unless given")
    parser.add_argument("-o", "--output", help="out.png, .svg, .pdf or .gif; text in the terminal without it")


def run(args):
    """Draw, and print where to; what there is to warn of goes to stderr, a sentence a line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        written = draw(args, load(args))
    for warning in caught:
        print(f"attention-ref plot: {warning.message}", file=sys.stderr)
    print(written)
    return 0


def load(args):
    """The array to draw, (query, key) to (layer, head, query, key), with the layer and the heads asked for."""
    arrays = weight_files.read(args.file)
    if args.name is not None:
        checks.choice("FILE", "--name", args.name, tuple(arrays))
        arrays = {args.name: arrays[args.name]}
    shapes = sorted({array.shape for array in arrays.values()})
    if len(shapes) > 1:
        known = ", ".join(f"{name} {array.shape}" for name, array in list(arrays.items())[:6])
        raise ShapeError(f"the arrays of {Path(args.file).name} differ in shape ({known}); choose one with --name")
    layered = [unbatched(array, args.batch) for array in arrays.values()]
    weights = layered[0] if len(layered) == 1 else np.stack(layered)
    if not 2 <= weights.ndim <= 4:
        batch = "; choose an entry of the batch with --batch" if weights.ndim == 5 else ""
        raise ShapeError(f"the weights have shape {weights.shape}; they must have two to four axes, {AXES}{batch}")
    return narrowed(args, weights)


def unbatched(array, batch):
    """An array of five axes, or of four in a file of layers, without its batch axis."""
    if batch is not None:
        axis = array.ndim - 4
        if axis < 0:
            raise OptionError(f"--batch: the array of shape {array.shape} has no batch axis")
        return np.take(array, checks.index("plot", "--batch", batch, array.shape[axis], "entries"), axis=axis)
    return array[0] if array.ndim == 4 and len(array) == 1 else array


def narrowed(args, weights):
    if args.layer is not None:
        if weights.ndim != 4:
            raise OptionError(f"--layer: weights of shape {weights.shape} have no layer axis")
        weights = weights[checks.index("plot", "--layer", args.layer, len(weights), "layers")]
    if weights.ndim < 3 and (args.heads or args.reduce):
        raise OptionError(f"--heads and --reduce: weights of shape {weights.shape} have no head axis")
    if whole_model(args, weights):
        return weights
    if args.heads:
        chosen = checks.subset("plot", "--heads", numbers(args.heads), weights.shape[-3])
        weights = weights[..., chosen, :, :]
    if args.reduce:
        weights = OVER[args.reduce](weights, axis=-3, keepdims=weights.ndim == 4)
    return weights


def whole_model(args, weights):
    """Whether `layers` draws, which chooses and combines heads by itself, and names them."""
    drawn = args.output is not None and not args.output.lower().endswith(".gif")
    return weights.ndim == 4 and (args.kind == "layers" or (args.kind is None and drawn))


def over(args):
    """(what the picture shows of which heads, how rows are checked)."""
    which = f"heads {args.heads}" if args.heads else "all heads"
    title = f"{args.reduce} over {which}" if args.reduce else f"head {args.heads}" if args.heads else None
    return title, "ignore" if args.reduce in ("max", "min") else "warn"


def numbers(given):
    try:
        return [int(part) for part in given.split(",")]
    except ValueError:
        raise OptionError(f"--heads {given!r} must be numbers with commas between, as 0,3,5") from None


def draw(args, weights):
    """Draw and save; the line or lines to print."""
    kind = args.kind or ("text" if args.output is None else {2: "heatmap", 3: "heads", 4: "layers"}[weights.ndim])
    keys = tokens(args.tokens)
    queries = tokens(args.query_tokens) or (keys if weights.shape[-1] == weights.shape[-2] else None)
    if kind == "text":
        words = text(one(weights), query_labels=queries, key_labels=keys)
        if args.output is None:
            return words
        Path(args.output).write_text(words + "\n", encoding="utf-8")
        return Path(args.output)
    output = Path(args.output or Path(args.file).with_suffix(".gif" if kind == "training" else ".png").name)
    checks.choice("-o", "ending", output.suffix.lower().lstrip("."), (*FORMATS, "gif"))
    labels = {"query_labels": queries, "key_labels": keys}
    if output.suffix.lower() == ".gif" or kind == "training":
        steps = weights if weights.ndim == 3 else weights.mean(axis=1) if weights.ndim == 4 else weights[None]
        return training(steps, output, **labels)
    save(picture(args, kind, weights, labels), output)
    return output


def picture(args, kind, weights, labels):
    """The figure or axes of a kind."""
    if kind in WHOLE and weights.ndim == 3:
        weights = weights[None]
    if kind == "heads":
        title, check = over(args)
        names = [title] if args.reduce else [f"head {h}" for h in numbers(args.heads)] if args.heads else None
        weights = weights[None] if weights.ndim == 2 else weights
        return heads(weights, titles=names, check_rows=check, **labels)[0]
    if kind == "layers":
        chosen = numbers(args.heads) if args.heads else None
        return layers(weights, heads=chosen, over_heads=args.reduce, **labels)[0]
    if kind == "entropy":
        return entropy(weights)
    if kind in ("rollout", "flow"):
        return {"rollout": rollout, "flow": flow}[kind](weights, labels=labels["key_labels"])
    if kind == "rows":
        return rows(one(weights), args.query, **labels)
    if kind == "arcs":
        count = weights.shape[-2:]
        queries, keys = (given or [str(i) for i in range(n)] for given, n in zip(labels.values(), count, strict=True))
        return arcs(queries, one(weights), key_tokens=keys)
    title, check = over(args)
    return heatmap(one(weights), title=title, check_rows=check, **labels)


def one(weights):
    """The only matrix there is."""
    if weights[..., 0, 0].size != 1:
        raise ShapeError(
            f"weights of shape {weights.shape} are several matrices; choose with --layer and --heads, combine with "
            f"--reduce, or draw all with -o"
        )
    return weights.reshape(weights.shape[-2:])


def tokens(given):
    """Labels from a file, one a line, or from the words given."""
    if given is None:
        return None
    path = Path(given)
    try:
        is_file = path.is_file()
    except OSError:
        is_file = False
    return path.read_text(encoding="utf-8").splitlines() if is_file else given.split()

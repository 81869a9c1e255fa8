"""`attention-ref plot FILE`: draw the weights in a file."""

import sys
import warnings
from pathlib import Path

import numpy as np

from attention_ref.cli import weight_files
from attention_ref.errors import OptionError, ShapeError
from attention_ref.op.words import printable
from attention_ref.plot.describe import text
from attention_ref.plot.drawing import checks
from attention_ref.plot.drawing.figures import FORMATS, save
from attention_ref.plot.grids import COMBINE, heads, layers
from attention_ref.plot.heatmap import heatmap
from attention_ref.plot.model import entropy, flow, rollout
from attention_ref.plot.rows import rows
from attention_ref.plot.tokens import arcs
from attention_ref.plot.training import training

OF_ALL_LAYERS = ("layers", "entropy", "rollout", "flow")
KINDS = ("heatmap", "heads", *OF_ALL_LAYERS, "rows", "arcs", "text", "training")
KIND_BY_AXES = {2: "heatmap", 3: "heads", 4: "layers"}
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
    parser.add_argument("--reduce", choices=tuple(COMBINE), help="combine the heads")
    parser.add_argument("--kind", choices=KINDS, help="what to draw; by the number of axes unless given")
    parser.add_argument("-o", "--output", help="out.png, .svg, .pdf or .gif; text in the terminal without it")


def run(args):
    """Draw, and print where to; warnings go to standard error, a sentence a line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        written = draw(args, load(args))
    for warning in caught:
        print(f"attention-ref plot: {printable(str(warning.message))}", file=sys.stderr)
    print(printable(str(written)) if isinstance(written, Path) else written)
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
    by_layer = [unbatched(array, args.batch) for array in arrays.values()]
    weights = by_layer[0] if len(by_layer) == 1 else np.stack(by_layer)
    if 0 in weights.shape:
        raise ShapeError(f"the weights have shape {weights.shape}: there is nothing to draw")
    if not 2 <= weights.ndim <= 4:
        batch = "; choose an entry of the batch with --batch" if weights.ndim == 5 else ""
        raise ShapeError(f"the weights have shape {weights.shape}; they must have two to four axes, {AXES}{batch}")
    return chosen_layer_and_heads(args, weights)


def unbatched(array, batch):
    """An array of five axes, or of four in a file of layers, without its batch axis."""
    if batch is not None:
        axis = array.ndim - 4
        if axis < 0:
            raise OptionError(f"--batch: the array of shape {array.shape} has no batch axis")
        return np.take(array, checks.index("plot", "--batch", batch, array.shape[axis], "entries"), axis=axis)
    return array[0] if array.ndim == 4 and len(array) == 1 else array


def chosen_layer_and_heads(args, weights):
    if args.layer is not None:
        if weights.ndim != 4:
            raise OptionError(f"--layer: weights of shape {weights.shape} have no layer axis")
        weights = weights[checks.index("plot", "--layer", args.layer, len(weights), "layers")]
    if weights.ndim < 3 and (args.heads or args.reduce):
        raise OptionError(f"--heads and --reduce: weights of shape {weights.shape} have no head axis")
    if drawn_by_layers(args, weights):
        return weights
    if args.heads:
        chosen = checks.subset("plot", "--heads", numbers(args.heads), weights.shape[-3])
        weights = weights[..., chosen, :, :]
    if args.reduce:
        weights = COMBINE[args.reduce](weights, axis=-3, keepdims=weights.ndim == 4)
    return weights


def drawn_by_layers(args, weights):
    """Whether `layers` draws, which chooses and combines heads by itself, and names them."""
    if weights.ndim != 4:
        return False
    if args.kind is None:
        return args.output is not None and not args.output.lower().endswith(".gif")
    return args.kind == "layers"


def title_of_heads(args):
    """Which heads the picture shows, and combined how; None for all of them."""
    if args.reduce:
        heads_shown = f"heads {args.heads}" if args.heads else "all heads"
        return f"{args.reduce} over {heads_shown}"
    return f"head {args.heads}" if args.heads else None


def row_check(args):
    """The rows of a maximum or a minimum of heads need not sum to 1."""
    return "ignore" if args.reduce in ("max", "min") else "warn"


def numbers(text):
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise OptionError(f"--heads {text!r} must be numbers with commas between, as 0,3,5") from None


def draw(args, weights):
    """Draw and save; the line or lines to print."""
    kind = args.kind or ("text" if args.output is None else KIND_BY_AXES[weights.ndim])
    keys, queries = tokens(args.tokens), tokens(args.query_tokens)
    if not queries and weights.shape[-1] == weights.shape[-2]:
        queries = keys  # self-attention: the queries are the same tokens
    if kind == "text":
        words = text(only_matrix(weights), query_labels=queries, key_labels=keys)
        if args.output is None:
            return words
        Path(args.output).write_text(words + "\n", encoding="utf-8")
        return Path(args.output)
    if args.output:
        output = Path(args.output)
    else:
        output = Path(Path(args.file).with_suffix(".gif" if kind == "training" else ".png").name)
    checks.choice("-o", "ending", output.suffix.lower().lstrip("."), (*FORMATS, "gif"))
    labels = {"query_labels": queries, "key_labels": keys}
    if output.suffix.lower() == ".gif" or kind == "training":
        return training(by_step(weights), output, **labels)
    save(picture(args, kind, weights, labels), output)
    return output


def by_step(weights):
    """[step, query, key]: one step of a single matrix, the mean over the heads of four axes."""
    if weights.ndim == 2:
        return weights[None]
    return weights.mean(axis=1) if weights.ndim == 4 else weights


def picture(args, kind, weights, labels):
    """The figure or axes of a kind."""
    if kind in OF_ALL_LAYERS and weights.ndim == 3:
        weights = weights[None]
    if kind == "heads":
        titles = None
        if args.reduce:
            titles = [title_of_heads(args)]
        elif args.heads:
            titles = [f"head {head}" for head in numbers(args.heads)]
        weights = weights[None] if weights.ndim == 2 else weights
        return heads(weights, titles=titles, check_rows=row_check(args), **labels)[0]
    if kind == "layers":
        chosen = numbers(args.heads) if args.heads else None
        return layers(weights, heads=chosen, over_heads=args.reduce, **labels)[0]
    if kind == "entropy":
        return entropy(weights)
    if kind == "rollout":
        return rollout(weights, labels=labels["key_labels"])
    if kind == "flow":
        return flow(weights, labels=labels["key_labels"])
    if kind == "rows":
        return rows(only_matrix(weights), args.query, **labels)
    if kind == "arcs":
        matrix = only_matrix(weights)
        queries = labels["query_labels"] or [str(i) for i in range(matrix.shape[0])]
        keys = labels["key_labels"] or [str(j) for j in range(matrix.shape[1])]
        return arcs(queries, matrix, key_tokens=keys)
    return heatmap(only_matrix(weights), title=title_of_heads(args), check_rows=row_check(args), **labels)


def only_matrix(weights):
    """The only matrix there is, [query, key]."""
    if weights[..., 0, 0].size != 1:
        raise ShapeError(
            f"weights of shape {weights.shape} are several matrices; choose with --layer and --heads, combine with "
            f"--reduce, or draw all with -o"
        )
    return weights.reshape(weights.shape[-2:])


def tokens(text):
    """Labels: the lines of a file of this name if there is one, otherwise the words themselves."""
    if text is None:
        return None
    path = Path(text)
    try:
        is_file = path.is_file()
    except OSError:  # a text too long for a file's name
        is_file = False
    if not is_file:
        return text.split()
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise OptionError(f"{path.name}: is no text in UTF-8; tokens are read from it, one a line") from None

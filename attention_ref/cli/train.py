"""`attention-ref train {translate,reverse}`: train in front of the reader, and show what was learned."""

from dataclasses import replace

from attention_ref.errors import OptionError
from attention_ref.pipeline.tiled.blas import one_thread
from attention_ref.train.loop import Settings, train
from attention_ref.train.measure import aligned, exact, longer
from attention_ref.train.model import DECODERS
from attention_ref.train.task import ENDING, joined, reverse, translate

TASKS = {"translate": (translate, Settings()), "reverse": (reverse, Settings(width=32, rate=0.01, epochs=18))}
SENTENCES = ("i love you", "she buys the red car", "the man does not see us but i love him")
LONG = 8  # words of a sentence: without attention, long ones are what a model fails at (Bahdanau et al. 2015, figure 2)


def add_arguments(parser):
    parser.add_argument("task", choices=tuple(TASKS), help="English to French, or the letters of a word backwards")
    parser.add_argument("--model", choices=tuple(DECODERS), default="additive", help="default: additive")
    parser.add_argument("--epochs", type=int, help="how often every training pair is seen")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", metavar="FILE", help="written after every epoch, taken up again if it is there")
    parser.add_argument("--text", action="append", help="a further sentence or word to show; may be repeated")


def run(args):
    make, settings = TASKS[args.task]
    settings = replace(settings, seed=args.seed, epochs=epochs(args, settings))
    task = make()
    sources = [task.source(text) for text in examples(task, args.text)]
    with one_thread():  # for matrices this small one is faster; without threadpoolctl it is the environment's affair
        done = train(task, args.model, settings, args.checkpoint)
    pairs = f"{len(task.train)} pairs to learn from, {len(task.held_out)} held out"
    print(f"{task.name}, model {args.model}: {pairs}")
    print(f"loss per token after {settings.epochs} epochs: {done.train[-1]:.4f}, held out {done.held_out[-1]:.4f}")
    print(f"held out and exactly right: {exact(done.model, task, task.held_out):.0%}")
    print(f"of those of {LONG} or more words: {exact(done.model, task, longer(task.held_out, LONG)):.0%}")
    if task.name == "reverse" and done.model.looks:
        print(f"held-out letters whose largest weight is in the right place: {aligned(done.model, task):.1%}")
    for source, (tokens, alpha) in zip(sources, done.model.decode(sources, task.longest), strict=True):
        print_one(task.source_text(source), task.target_text(tokens), alpha)
    return 0


def epochs(args, settings):
    if args.epochs is None:
        return settings.epochs
    if args.epochs < 1:
        raise OptionError(f"--epochs must be at least 1; got {args.epochs}")
    return args.epochs


def examples(task, texts):
    """What is translated at the end: sentences, or words that were held out, and what the user asks for."""
    if task.name == "reverse":
        own = [" ".join(task.source_text(source)) for source, _ in task.held_out[:3]]
    else:
        own = list(SENTENCES)
    return own + (texts or [])


def print_one(source, target, alpha):
    """The pair, and the weights in percent: a row for each word put out, a column for each word of the source."""
    print(f"\n{' '.join(source)}  →  {joined(target)}")
    if alpha is None:
        return
    width = max(map(len, source))
    print(" " * 12, *(f"{word:>{width}}" for word in source))
    for word, row in zip([*target, ENDING], alpha, strict=False):
        print(f"{word:>12}", *(f"{100 * weight:{width}.0f}" for weight in row))

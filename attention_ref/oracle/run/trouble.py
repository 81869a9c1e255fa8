"""What can be wrong with a candidate, as data: a verdict, a group or a command depends on kinds, never on words.

The words are in one table, `SENTENCES`, and nothing reads them but people: a test changes all of them.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from attention_ref.op.words import listed, plural

RESULT_OF = {"forward": "return o, (o, lse) or a dict with 'o'", "backward": 'return a dict such as {"q": dq, "k": dk}'}
CALLED = {"forward": "candidate(q, k, v, **options)", "backward": "backward(do, q, k, v, o, lse, **options)"}


class TroubleKind(Enum):
    """What is wrong: the verdict that it leads to, and its name."""

    # with a call
    RAISED = ("error", "raised an exception")
    COMMAND_FAILED = ("error", "a command did not answer as the protocol says")
    TIMED_OUT = ("error", "ran out of time")
    RETURNS_OTHER = ("error", "returned something that is no result")
    RETURNS_TOO_MANY = ("error", "returned too many things")
    NO_ARRAY = ("error", "a result is no array")
    NO_OUTPUT = ("error", "returned no o")
    GRADIENT_NAMES = ("error", "gradients under other names")
    DIED = ("error", "ended its process")
    NOT_RUN = ("error", "not run")
    WRITES_INPUT = ("fail", "writes into an input")
    RETURNS_VIEW = ("fail", "returned a view of an input")
    REFUSED = ("unsupported", "raised NotImplementedError")
    CANNOT_SAY = ("unsupported", "a library or program has no words for it")

    # with a result
    SHAPE = ("fail", "wrong shape")
    DTYPE = ("fail", "wrong dtype")
    UNEXPECTED_VALUE = ("fail", "NaN or infinite where it should not be")
    MISSING_VALUE = ("fail", "not NaN or infinite where it should be")
    NAN_IN_LINES = ("fail", "NaN in some rows or keys of a long result")
    OUT_OF_BOUND = ("fail", "outside its bound")
    VARIES = ("nondeterministic", "other bits in the second run")
    MISSING_IN_SECOND_RUN = ("nondeterministic", "not returned by the second run")
    OUT_OF_BAND = ("suspicious", "outside the statistical band")
    KNOWN = ("known", "off as it is known to be")

    # with a stage that a candidate returns besides
    STAGE_SHAPE = ("fail", "a stage has the wrong shape")
    STAGE_NOT_FINITE = ("fail", "a stage is not finite where it should be")
    STAGE_FINITE = ("fail", "a stage is finite where it should not be")
    STAGE_OFF = ("fail", "a stage is off")

    # with a comparison, which cannot be made
    NOT_DECLARED = ("unsupported", "an option is not declared")
    UNFIT = ("unsupported", "the case has no meaning here, or is too large")
    NO_FORWARD = ("unsupported", "nothing to go back from")
    NOT_RETURNED = ("unsupported", "a gradient is not returned")
    NO_GRADIENT = ("unsupported", "no gradient of the case")
    SUM_OVER_PAIRS = ("unsupported", "a sum over all pairs, of which a sample has few")
    NO_BOUND = ("unsupported", "no bound")
    NO_BOUND_IN_SAMPLE = ("unsupported", "no bound in a sample")
    NO_MEANING = ("unsupported", "no meaning under the normalizer")
    UNKNOWN_RESULT = ("unsupported", "an unknown result")
    NOTHING_RETURNED = ("unsupported", "nothing that can be checked")

    @property
    def verdict(self) -> str:
        return self.value[0]


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong: its kind, the facts that its sentence names, which function has it, in which run."""

    kind: TroubleKind
    # The facts are left out of the hash, since a dict has none; equality, which decides, has them.
    facts: dict[str, Any] = field(default_factory=dict, hash=False)
    role: str = "forward"
    in_second_run: bool = False

    @property
    def verdict(self) -> str:
        return self.kind.verdict

    @property
    def group(self) -> tuple:
        """What two troubles share that are the same mistake: not the numbers, which differ from case to case."""
        return (self.kind, self.role, *((name, self.facts[name]) for name in IDENTIFYING if name in self.facts))

    @property
    def sentence(self) -> str:
        backward = self.role == "backward"
        words = {
            "it": "the backward" if backward else "it",
            "its": "the backward's" if backward else "its",
            "who": "the backward" if backward else "the candidate",
            "prefix": "backward: " if backward else "",
            "right": RESULT_OF[self.role],
        }
        for name, fact in self.facts.items():
            words[name] = AS_WORDS[name](fact) if name in AS_WORDS else fact
        sentence = SENTENCES[self.kind].format(**words)
        return f"in the second of two runs, {sentence}" if self.in_second_run else sentence


IDENTIFYING = ("exception", "summary", "result", "input", "names", "type")

SENTENCES = {
    TroubleKind.RAISED: "{it} raised {exception}{message}{location}{hint}",
    TroubleKind.COMMAND_FAILED: "{prefix}{summary}{message}",
    TroubleKind.TIMED_OUT: "{it} had not returned after {seconds:g} s (timeout=)",
    TroubleKind.RETURNS_OTHER: "{it} returned {type}; {right}",
    TroubleKind.RETURNS_TOO_MANY: "{it} returned {count} things; {right}",
    TroubleKind.NO_ARRAY: "{its} result {result} is {type}, not a NumPy array",
    TroubleKind.NO_OUTPUT: "{it} returned a dict without 'o'; {right}",
    TroubleKind.GRADIENT_NAMES: "{it} returned gradients under the names {names}; {right}",
    TroubleKind.DIED: "it ended its worker process: a crash, which Python cannot catch",
    TroubleKind.NOT_RUN: "not run: an earlier case ended the worker processes",
    TroubleKind.WRITES_INPUT: "{it} writes into its input {input}",
    TroubleKind.RETURNS_VIEW: "{its} result {result} is a view of its input {input}, not an array of its own",
    TroubleKind.REFUSED: "{prefix}it raised {exception}{message}{location}",
    TroubleKind.CANNOT_SAY: "{prefix}{reason}",
    TroubleKind.SHAPE: "{result} has shape {got}, expected {want}",
    TroubleKind.DTYPE: "{result} has dtype {got}, expected {dtypes}",
    TroubleKind.UNEXPECTED_VALUE: "{result} is {value}, where it should not be, at {count} of {size} elements",
    TroubleKind.MISSING_VALUE: "{result} is not {value}, as it should be, at {count} of {size} elements",
    TroubleKind.NAN_IN_LINES: "{result} is nan, where it should not be, first at {axis} {first}, in {lines}",
    TroubleKind.OUT_OF_BOUND: "{result} is off by {score:.3g} times its bound",
    TroubleKind.VARIES: "{result} differs between two runs on the same inputs",
    TroubleKind.MISSING_IN_SECOND_RUN: "the second run returns no {result}",
    TroubleKind.OUT_OF_BAND: "{result} is inside its bound, but {score:.3g} times the statistical band",
    TroubleKind.KNOWN: "{deviations}",
    TroubleKind.STAGE_SHAPE: "stage {stage!r} has shape {got}, expected {want}",
    TroubleKind.STAGE_NOT_FINITE: "stage {stage!r} is the first that is wrong: {count} of its entries should be finite",
    TroubleKind.STAGE_FINITE: "stage {stage!r} is the first that is wrong: {count} of its entries should not be finite",
    TroubleKind.STAGE_OFF: (
        "stage {stage!r} is the first that is wrong: off by {error:.2g}, where the largest entry is {largest:.2g}"
    ),
    TroubleKind.NOT_DECLARED: "{who} does not declare {options}",
    TroubleKind.UNFIT: "{reason}",
    TroubleKind.NO_FORWARD: "the forward pass gave nothing to go back from",
    TroubleKind.NOT_RETURNED: "the backward does not return {result}",
    TroubleKind.NO_GRADIENT: "{result} is no gradient of this case",
    TroubleKind.SUM_OVER_PAIRS: "{result} is a sum over all pairs, which a sample does not give",
    TroubleKind.NO_BOUND: "there is no bound for {result} here",
    TroubleKind.NO_BOUND_IN_SAMPLE: "{reason}",
    TroubleKind.NO_MEANING: "{result} has no meaning under this normalizer",
    TroubleKind.UNKNOWN_RESULT: "{result} is no result that this oracle knows",
    TroubleKind.NOTHING_RETURNED: "it returned nothing that can be checked",
}


class Hint(Enum):
    """What to do about a call that raised."""

    NONE = ""
    CALLED_FORWARD = f"; it is called as {CALLED['forward']}"
    CALLED_BACKWARD = f"; it is called as {CALLED['backward']}"
    GIVE_DEFAULTS = "; give every option a default, a case passes only those that it uses"
    LEAVE_OPTION_OUT = "; leave an option that it does not have out of the signature, or raise NotImplementedError"


def all_options(names) -> str:
    return " or ".join(f"{name}=" for name in names)


# How a fact is put into words, where it is not printed as it is.
AS_WORDS = {
    "message": lambda text: f": {text}" if text else "",
    "location": lambda line: f" ({line})" if line else "",
    "hint": lambda hint: hint.value,
    "names": ", ".join,
    "options": all_options,
    "dtypes": lambda dtypes: listed(dtypes, "or"),
    "deviations": "; and ".join,
    "lines": lambda lines: plural(*lines),
}

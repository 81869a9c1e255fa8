"""What is learned: to translate the corpus, and to reverse a sequence, whose right alignment is known."""

from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from attention_ref.errors import OptionError

ENDING = "<end>"


@dataclass(frozen=True)
class Task:
    """Pairs of token ids, those to learn from and those held out, and the words that the ids stand for."""

    name: str
    source_words: list[str]
    target_words: list[str]
    train: list[tuple[list[int], list[int]]]
    held_out: list[tuple[list[int], list[int]]]

    @property
    def steps(self):
        return max(len(source) for source, _ in self.train + self.held_out)

    @property
    def longest(self):
        return max(len(target) for _, target in self.train + self.held_out) + 1

    def source(self, text):
        """The ids of a text's words."""
        for word in split(text):
            if word not in self.source_words[1:]:
                raise OptionError(
                    f"{word!r} is not among the {len(self.source_words) - 1} words that {self.name} knows"
                )
        if not 1 <= len(split(text)) <= self.steps:
            raise OptionError(f"{text!r} has {len(split(text))} words; {self.name} takes 1 to {self.steps}")
        return [self.source_words.index(word) for word in split(text)]

    def source_text(self, ids):
        return [self.source_words[n] for n in ids]

    def target_text(self, ids):
        return [self.target_words[n] for n in ids]


def split(text):
    """Words; an elided one ends in its apostrophe: "je t'aime" is je, t', aime."""
    return text.replace("'", "' ").split()


def joined(words):
    return " ".join(words).replace("' ", "'")


def corpus():
    """(split, English, French) of every sentence pair that comes with the project.

    They were composed for it from a small grammar of patterns and 82 English words; what is held out was drawn at
    random.
    """
    text = files("attention_ref.train").joinpath("corpus.tsv").read_text(encoding="utf-8")
    return [tuple(line.split("\t")) for line in text.splitlines()[1:]]


def translate():
    lines = [(part, split(english), split(french)) for part, english, french in corpus()]
    sources = [ENDING, *sorted({word for _, english, _ in lines for word in english})]
    targets = [ENDING, *sorted({word for _, _, french in lines for word in french})]
    ids = {
        part: [
            ([sources.index(w) for w in english], [targets.index(w) for w in french])
            for found, english, french in lines
            if found == part
        ]
        for part in ("train", "held_out")
    }
    return Task("translate", sources, targets, ids["train"], ids["held_out"])


def reverse(count=1200, held_out=200, letters=16, shortest=3, longest=9, seed=0):
    """Random words of letters, and their letters from last to first."""
    rng = np.random.default_rng(seed)
    drawn = {}
    while len(drawn) < count + held_out:
        word = rng.integers(1, letters + 1, rng.integers(shortest, longest + 1)).tolist()
        drawn.setdefault(tuple(word), (word, word[::-1]))
    pairs = list(drawn.values())
    words = [ENDING, *(chr(ord("a") + n) for n in range(letters))]
    return Task("reverse", words, words, pairs[held_out:], pairs[:held_out])

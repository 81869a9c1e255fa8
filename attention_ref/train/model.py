"""A model that turns one sequence into another: the weights of `seq2seq_loss`, its gradients, and greedy decoding."""

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.mechanism import decoder as decoding
from attention_ref.mechanism import gru_encoder, mechanisms
from attention_ref.mechanism.seq2seq_loss import GRU, LOOKS
from attention_ref.op.suggest import did_you_mean
from attention_ref.train.batch import END, padded

LOSS = mechanisms["seq2seq_loss"]
NOT_WEIGHTS = ("source", "target", "source_lengths", "target_lengths", "decoder")
DECODERS = {"none": "summed", "document": "attention", "additive": "additive"}
"""The three models: no attention, c = Σ h; the documents' decoder; additive attention."""


class Model:
    """One of the three models with its weights, drawn at random from a seed."""

    def __init__(self, name, source_words, target_words, *, width=64, steps=12, seed=0):
        if name not in DECODERS:
            raise OptionError(f"there is no model {name!r}{did_you_mean(name, DECODERS)}")
        self.name, self.decoder, self.width, self.steps = name, DECODERS[name], width, steps
        self.look = LOOKS[self.decoder]
        letters = {"a": source_words, "v": target_words, "j": steps}
        sizes = dict.fromkeys("mnhxy", width) | letters
        drawn = LOSS.example(seed, variant=list(LOOKS).index(self.decoder), **sizes)
        self.weights = {name: w for name, w in drawn.items() if name not in NOT_WEIGHTS}

    @property
    def looks(self):
        """Whether the model has attention weights."""
        return self.decoder != "summed"

    def forward(self, pairs):
        """(the loss of every pair, the tape, the number of target tokens), for (source, target) pairs of token ids."""
        # The documents' decoder has a weight vector for each position, so its sources are padded to one length for all.
        source, source_lengths = padded([pair[0] for pair in pairs], self.steps if self.name == "document" else None)
        target, target_lengths = padded([[*pair[1], END] for pair in pairs])
        lengths = {"source_lengths": source_lengths, "target_lengths": target_lengths}
        loss, tape = LOSS.forward(
            source=source, target=target, decoder=self.decoder, start=END, **lengths, **self.weights
        )
        return loss, tape, target_lengths.sum()

    def loss_and_grads(self, pairs):
        """The loss per target token, and its gradient for every weight."""
        loss, tape, tokens = self.forward(pairs)
        grads = LOSS.backward(np.full(loss.shape, 1 / tokens), **tape)
        return float(loss.sum() / tokens), {name: grads[name] for name in self.weights}

    def loss(self, pairs):
        """The loss per target token."""
        loss, _, tokens = self.forward(pairs)
        return float(loss.sum() / tokens)

    def decode(self, sources, longest):
        """(tokens, weights) for every source: the likeliest token at each step until the end, and α or None."""
        source, lengths = padded(sources, self.steps if self.name == "document" else None)
        w = self.weights
        encoder = {name: w[f"enc_{name}"] for name in ("embedding", *GRU)}
        h_0 = np.zeros((len(sources), self.width))
        (outputs, hidden), _ = gru_encoder.forward(source, h_0, lengths=lengths, **encoder)
        own = {name: w[f"dec_{name}"] for name in ("embedding", *GRU)}
        own |= {name: w[name] for name in ("w_c", "b_c", "w_o", "b_o", *self.look.parameters)}
        token, chosen, looks = np.full(len(sources), END), [], []
        for _ in range(longest):
            (logp, hidden, alpha), _ = decoding.step(self.look, token, hidden, outputs, lengths=lengths, **own)
            token = logp.argmax(axis=-1)
            chosen.append(token)
            looks.append(alpha)
        return [self.finished(n, chosen, looks, lengths[n]) for n in range(len(sources))]

    def finished(self, n, chosen, looks, length):
        """The tokens of source n before the end, and α with a row for each of them and one for the end."""
        tokens = [int(step[n]) for step in chosen]
        stop = tokens.index(END) if END in tokens else len(tokens)
        alpha = None if looks[0] is None else np.array([look[n, :length] for look in looks[: stop + 1]])
        return tokens[:stop], alpha

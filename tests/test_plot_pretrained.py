"""The weights of a real pretrained model, drawn: layers × heads over an English and a Chinese sentence."""

import numpy as np
import pytest
from plot_help import overlaps, pixels, written

from attention_ref import plot

pytestmark = [pytest.mark.slow, pytest.mark.pictures]
ENGLISH = "The cat that the dogs chased was not afraid of them."
CHINESE = "我 在 北 京 大 学 学 中 文 。"


@pytest.fixture(scope="module")
def minilm():
    import minilm

    return minilm


def test_the_tokenizer_is_bert_s(minilm):
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(minilm.folder() / "tokenizer.json"))
    vocabulary = theirs.get_vocab()
    theirs.no_padding()
    for text in (ENGLISH, CHINESE, "Tokenization, über-naïve: 100% unaffordable!", "北京大学"):
        assert minilm.tokenize(text, vocabulary) == theirs.encode(text).tokens


def test_the_model_means_what_it_should(minilm):
    """The mean of the last states stands for the sentence: two that mean the same are nearer than a third."""
    same, alike, other = (
        minilm.attentions(text)[2].mean(axis=0)
        for text in ("A man is eating food.", "A man eats something.", "The stock market fell today.")
    )

    def cosine(a, b):
        return a @ b / np.sqrt((a @ a) * (b @ b))

    assert cosine(same, alike) > 0.7 > 0.2 > cosine(same, other)


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["english", "chinese"])
@pytest.mark.filterwarnings("ignore:layers. no installed font has")
def test_layers_by_heads_can_be_read(minilm, text):
    tokens, alphas, _ = minilm.attentions(text)
    figure, axes = plot.layers(alphas, query_labels=tokens, key_labels=tokens)
    assert axes.shape == (6, 12)
    pixels(figure)
    texts = [ax.title for ax in axes[0]] + [ax.yaxis.label for ax in axes[:, 0]]
    for ax in [*axes[-1], *axes[:-1, 0]]:
        texts += [*ax.get_xticklabels(), *ax.get_yticklabels()]
    assert overlaps([one for one in texts if one.get_text()]) == []
    assert written(figure)[:4] == b"\x89PNG"
    assert np.abs(np.sum(alphas, axis=-1) - 1).max() < 1e-12
    assert plot.rollout_weights(alphas).sum(axis=1) == pytest.approx(np.ones(len(tokens)))

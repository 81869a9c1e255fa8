"""The weights of a real pretrained model: computed as PyTorch computes them, and drawn for two languages."""

import json
from pathlib import Path

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


@pytest.fixture(scope="module")
def notebook(minilm):
    """What the code of notebook 13 defines, up to and with its function `run`."""
    path = Path(__file__).parents[2] / "notebooks" / "13_attention_in_a_real_model.ipynb"
    names = {}
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code" and "run" not in names:
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
    return names


@pytest.mark.parametrize("text", [ENGLISH, "Tokenization, über-naïve: 100% unaffordable!", "No"])
def test_the_notebook_s_code_is_the_model(minilm, notebook, text):
    """Every head's weights and the sentence's vector, against Hugging Face's BERT in PyTorch, float64 in both."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm.folder())
    model = AutoModel.from_pretrained(minilm.folder(), attn_implementation="eager").double()
    with torch.no_grad():
        theirs = model(**tokenizer(text, return_tensors="pt"), output_attentions=True)
    tokens = notebook["tokenize"](text)
    assert tokens == tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
    alpha, _, sentence = notebook["run"](tokens)
    assert np.abs(alpha - torch.cat(theirs.attentions).numpy()).max() < 1e-14
    mean = theirs.last_hidden_state[0].mean(dim=0).numpy()
    assert np.abs(sentence - mean / np.linalg.norm(mean)).max() < 1e-14
    ours, alphas, _ = minilm.attentions(text)
    assert ours == tokens
    assert np.abs(np.array(alphas) - alpha).max() < 1e-14


def test_a_head_taken_out_gives_what_the_model_gives_without_it(minilm, notebook):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm.folder())
    model = AutoModel.from_pretrained(minilm.folder(), attn_implementation="eager").double()
    with torch.no_grad():
        for layer, head in ((1, 8), (5, 11)):  # its columns of the output matrix are 0: nothing of it arrives
            model.encoder.layer[layer].attention.output.dense.weight[:, 32 * head : 32 * (head + 1)] = 0
        mean = model(**tokenizer(ENGLISH, return_tensors="pt")).last_hidden_state[0].mean(dim=0).numpy()
    _, _, sentence = notebook["run"](notebook["tokenize"](ENGLISH), mute=[(1, 8), (5, 11)])
    assert np.abs(sentence - mean / np.linalg.norm(mean)).max() < 1e-14


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

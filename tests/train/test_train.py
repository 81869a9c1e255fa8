"""Training: the optimizer, padding, checkpoints, the corpus, and what the models are claimed to learn."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from attention_ref import OptionError
from attention_ref.cli.main import main
from attention_ref.cli.train import TASKS
from attention_ref.train import checkpoint
from attention_ref.train.adam import Adam, clip
from attention_ref.train.batch import batches, padded
from attention_ref.train.loop import Settings, train
from attention_ref.train.measure import aligned, exact, longer
from attention_ref.train.model import DECODERS, Model
from attention_ref.train.task import corpus, joined, reverse, split, translate

SMALL = Settings(width=7, epochs=4, batch=5)


def small_task():
    return reverse(count=23, held_out=5, letters=6, longest=5)


def test_the_corpus_is_sound():
    lines = corpus()
    parts = Counter(part for part, _, _ in lines)
    assert set(parts) == {"train", "held_out"}
    assert parts["train"] >= 500
    assert parts["held_out"] >= 100
    assert len({english for _, english, _ in lines}) == len(lines)
    assert ("train", "i love you", "je t'aime") in lines
    learned = {word for part, *texts in lines if part == "train" for text in texts for word in split(text)}
    assert {word for _, *texts in lines for text in texts for word in split(text)} == learned
    for _, english, french in lines:
        assert joined(split(french)) == french
        assert " ".join(split(english)) == english
    assert sum(len(english.split()) >= 8 for part, english, _ in lines if part == "held_out") >= 40


def test_french_elides():
    vowels = "aeiouéèêây"
    for _, _, french in corpus():
        words = french.split()
        for word, after in pairwise(words):
            assert not (word in ("je", "me", "te", "le", "la", "ne") and (after[0] in vowels or after == "homme")), (
                french
            )


def test_reverse_holds_words_out():
    task = small_task()
    assert all(target == source[::-1] for source, target in task.train + task.held_out)
    assert not {tuple(s) for s, _ in task.train} & {tuple(s) for s, _ in task.held_out}


def test_padded():
    tokens, lengths = padded([[3, 1], [2], [5, 4, 6]])
    assert tokens.tolist() == [[3, 1, 0], [2, 0, 0], [5, 4, 6]]
    assert lengths.tolist() == [2, 1, 3]
    assert padded([[3]], 4)[0].shape == (1, 4)


def test_batches_hold_every_pair_once():
    pairs = small_task().train
    found = batches(pairs, 5, np.random.default_rng(0))
    assert sorted(pair for group in found for pair in group) == sorted(pairs)
    assert max(map(len, found)) == 5


@pytest.mark.parametrize("name", DECODERS)
def test_a_padded_batch_has_the_gradients_of_its_pairs_one_by_one(name):
    task = small_task()
    model = Model(name, 7, 7, width=5, steps=task.steps)
    pairs = sorted(task.train[:6], key=lambda pair: len(pair[0]))
    assert len({len(source) for source, _ in pairs}) > 2
    loss, grads = model.loss_and_grads(pairs)
    tokens = [len(target) + 1 for _, target in pairs]
    alone = [model.loss_and_grads([pair]) for pair in pairs]
    assert np.isclose(loss, sum(n * own for n, (own, _) in zip(tokens, alone, strict=True)) / sum(tokens), rtol=1e-13)
    for weight, g in grads.items():
        summed = sum(n * own[weight] for n, (_, own) in zip(tokens, alone, strict=True)) / sum(tokens)
        np.testing.assert_allclose(g, summed, rtol=1e-11, atol=1e-15, err_msg=weight)


@pytest.mark.parametrize("name", DECODERS)
def test_decoding_a_batch_is_decoding_one_by_one(name):
    task = small_task()
    model = train(task, name, SMALL).model
    sources = [source for source, _ in task.held_out]
    for source, (tokens, alpha) in zip(sources, model.decode(sources, 8), strict=True):
        [(own, own_alpha)] = model.decode([source], 8)
        assert own == tokens
        if name == "none":
            assert alpha is None
            continue
        np.testing.assert_allclose(alpha, own_alpha, rtol=1e-12)
        np.testing.assert_allclose(alpha.sum(axis=1), 1)
        assert alpha.shape == (min(len(tokens) + 1, 8), len(source))


def test_decoding_follows_the_loss():
    """Every token put out is the likeliest behind those before it, by the loss's own log-probabilities."""
    task = small_task()
    model = train(task, "additive", replace(SMALL, epochs=12, width=16)).model
    for source, _ in task.held_out:
        [(tokens, _)] = model.decode([source], 12)
        assert 0 < len(tokens) < 12
        _, tape, _ = model.forward([(source, tokens)])
        assert tape["logp"][0].argmax(axis=-1).tolist() == [*tokens, 0]


def test_adam_steps_as_the_formula_says():
    rng = np.random.default_rng(3)
    w = {"w": rng.standard_normal(5)}
    gradients = rng.standard_normal((4, 5))
    want, m, v = w["w"].copy(), 0, 0
    adam = Adam(w, rate=0.1, decay=0.2)
    for t, g in enumerate(gradients, start=1):
        adam.step(w, {"w": g})
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        want = want * (1 - 0.1 * 0.2)
        want = want - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(w["w"], want, rtol=1e-12)


def test_clip_keeps_the_direction():
    grads = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    clipped, length = clip(grads, 1.0)
    assert length == 5
    np.testing.assert_allclose(clipped["a"], [0.6, 0])
    np.testing.assert_allclose(clipped["b"], [[0.8]])
    kept, _ = clip(grads, 5.0)
    assert all(np.array_equal(kept[name], grads[name]) for name in grads)
    zeros, length = clip({"a": np.zeros(2)}, 1.0)
    assert length == 0
    assert np.array_equal(zeros["a"], np.zeros(2))


def same(one, other):
    return one.train == other.train and all(
        np.array_equal(w, other.model.weights[name]) for name, w in one.model.weights.items()
    )


@pytest.mark.parametrize("name", DECODERS)
def test_a_training_taken_up_again_ends_with_the_same_bits(name, tmp_path):
    task = small_task()
    whole = train(task, name, SMALL)
    path = tmp_path / "half.npz"
    half = train(task, name, SMALL, path, stop=2)
    assert len(half.train) == 2
    assert not same(half, whole)
    assert same(train(task, name, SMALL, path), whole)
    assert same(train(task, name, SMALL, path), whole)  # nothing is left to do
    assert same(train(task, name, SMALL), whole)
    assert not same(train(task, name, replace(SMALL, seed=1)), whole)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    train(small_task(), "additive", SMALL, path, stop=1)
    for name, settings in (("none", SMALL), ("additive", replace(SMALL, width=8))):
        with pytest.raises(OptionError, match=r"a\.npz was written with (model|width) = "):
            train(small_task(), name, settings, path)
    path.write_bytes(b"what is this")
    with pytest.raises(OptionError, match="is no checkpoint"):
        train(small_task(), "additive", SMALL, path)
    np.savez(path, plan=np.array([{}], dtype=object))
    with pytest.raises(OptionError, match="is no checkpoint"):
        checkpoint.load(path, {}, {}, Adam({}))


def test_the_command_trains_and_shows(capsys, tmp_path):
    path = str(tmp_path / "t.npz")
    assert main(["train", "translate", "--epochs", "1", "--text", "we eat", "--checkpoint", path]) == 0
    out, err = capsys.readouterr()
    assert "604 pairs to learn from, 120 held out" in out
    assert "\ni love you  →" in out
    assert "\nwe eat  →" in out
    assert err == ""
    assert main(["train", "reverse", "--epochs", "1", "--model", "none"]) == 0
    assert "right place" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train"], "task"),
        (["train", "sort"], "'sort'"),
        (["train", "reverse", "--epochs", "0"], "--epochs must be at least 1"),
        (["train", "translate", "--text", "i love zebras"], "'zebras' is not among the 82 words"),
        (["train", "reverse", "--text", " "], "0 words"),
        (["train", "translate", "--model", "big"], "'big'"),
        (["train", "translate", "--checkpoint", "no/such/folder/a.npz", "--epochs", "1"], "cannot write"),
    ],
)
def test_a_usage_error_is_one_sentence(arguments, named, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert named in err


def test_there_is_no_fourth_model():
    with pytest.raises(OptionError, match="did you mean 'additive'"):
        Model("additiv", 3, 3)


@pytest.mark.slow
def test_a_translator_with_attention_beats_one_without():
    """The claims of notebook 08, twice, to the bit."""
    task, settings = translate(), TASKS["translate"][1]
    done = {name: train(task, name, settings) for name in DECODERS}
    long = {name: exact(found.model, task, longer(task.held_out, 8)) for name, found in done.items()}
    held_out = {name: found.held_out[-1] for name, found in done.items()}
    print(long, held_out)
    assert long["none"] < long["document"] < long["additive"]
    assert long["additive"] > long["none"] + 0.3
    assert held_out["additive"] < held_out["document"] < held_out["none"]
    assert held_out["additive"] < 0.5
    [(tokens, _)] = done["additive"].model.decode([task.source("i love you")], task.longest)
    assert joined(task.target_text(tokens)) == "je t'aime"
    assert same(train(task, "additive", settings), done["additive"])


@pytest.mark.slow
def test_a_reverser_looks_at_the_right_place():
    make, settings = TASKS["reverse"]
    task = make()
    done = train(task, "additive", settings)
    assert aligned(done.model, task) >= 0.95
    assert exact(done.model, task, task.held_out) >= 0.95
    assert same(train(task, "additive", settings), done)

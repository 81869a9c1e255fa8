"""`attention-ref plot FILE`: what it reads, what it refuses, what it writes."""

import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image
from plot_help import weights

from attention_ref import OptionError
from attention_ref.cli import weight_files
from attention_ref.cli.main import main


def write_safetensors(path, arrays, kinds=None, header=None):
    entries, data = {"__metadata__": {"format": "np"}}, b""
    for name, array in arrays.items():
        raw = array.tobytes()
        kind = (kinds or {}).get(
            name, {"float64": "F64", "float32": "F32", "float16": "F16"}.get(array.dtype.name, "I64")
        )
        entries[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(entries if header is None else header(entries)).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)


@pytest.fixture
def model(tmp_path):
    """Three layers of four heads, as Hugging Face gives them: one (1, head, query, key) a layer."""
    layers = weights(3, 4, 5, 5)
    path = tmp_path / "attentions.npz"
    np.savez(path, *[layer[None] for layer in layers])
    return path, layers


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_and_npz_come_back_exactly(tmp_path, dtype, order):
    array = np.asarray(weights(3, 5, 7).astype(dtype), order=order)
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", layer10=array, layer2=array * 2)
    (one,) = weight_files.read(tmp_path / "a.npy").values()
    assert np.array_equal(one, array)
    assert one.dtype == array.dtype
    many = weight_files.read(tmp_path / "a.npz")
    assert list(many) == ["layer2", "layer10"]
    assert np.array_equal(many["layer2"], array * 2)


def test_safetensors_come_back_exactly(tmp_path):
    arrays = {"b.10": weights(2, 3), "b.9": weights(2, 3).astype(np.float32), "c": weights(4).astype(np.float16)}
    bits = np.array([0x3F80, 0x3FC0, 0xC000], np.uint16)
    write_safetensors(tmp_path / "a.safetensors", arrays | {"d": bits}, kinds={"d": "BF16"})
    read = weight_files.read(tmp_path / "a.safetensors")
    assert list(read) == ["b.9", "b.10", "c", "d"]
    assert all(np.array_equal(read[name], array) for name, array in arrays.items())
    assert np.array_equal(read["d"], [1.0, 1.5, -2.0])


def spoiled(tmp_path):
    """Files that lie about themselves, with what must be said."""
    good = tmp_path / "good.npy"
    np.save(good, weights(40, 40))
    short = tmp_path / "short.npy"
    short.write_bytes(good.read_bytes()[:-100])
    yield short, "promises 12800 bytes and the file has 12700"
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}], object), allow_pickle=True)
    yield objects, "Python objects"
    noise = tmp_path / "noise.npy"
    noise.write_bytes(b"\x93NUMPY\x01\x00\x05\x00hello")
    yield noise, "not in NumPy's format"
    pickled = tmp_path / "pickled.npy"
    pickled.write_bytes(pickle.dumps([1, 2]))
    yield pickled, "not in NumPy's format"
    huge = tmp_path / "huge.npy"
    shape = b"(4000000000, 4000000000), }"
    huge.write_bytes(good.read_bytes().replace(b"(40, 40), }".ljust(len(shape)), shape))
    yield huge, "promises"
    archive = tmp_path / "archive.npz"
    archive.write_bytes(b"PK nonsense")
    yield archive, "cannot be read"
    torch = tmp_path / "model.pt"
    torch.write_bytes(b"")
    yield torch, "numpy.savez"
    yield tmp_path / "missing.npy", "cannot be read"
    empty = tmp_path / "empty.npz"
    with zipfile.ZipFile(empty, "w"):
        pass
    yield empty, "holds no arrays"
    tensors = tmp_path / "long.safetensors"
    tensors.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    yield tensors, "no length of a header"
    tensors = tmp_path / "list.safetensors"
    tensors.write_bytes(struct.pack("<Q", 2) + b"[]")
    yield tensors, "not the JSON object"
    deep = tmp_path / "deep.safetensors"
    deep.write_bytes(struct.pack("<Q", 200_000) + b"[" * 200_000)
    yield deep, "not the JSON object"
    overlap = tmp_path / "overlap.safetensors"
    write_safetensors(overlap, {"a": weights(2, 3)}, header=lambda head: {"a": head["a"], "b": head["a"]})
    yield overlap, "'a' and 'b' in the same bytes"
    expression = tmp_path / "expression.npy"
    expression.write_bytes(good.read_bytes().replace(b"(40, 40)", b"(40,8*5)"))
    yield expression, "its header describes no array$"
    words = tmp_path / "words.npy"
    np.save(words, np.array(["a", "b"]))
    yield words, "must be real numbers"
    damaged = tmp_path / "damaged.npz"
    np.savez_compressed(damaged, weights(40, 40))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:500] + b"\0" * 900 + content[1400:])
    yield damaged, "cannot be read"
    for name, change, sentence in (
        ("short", {"data_offsets": [0, 8]}, "8 bytes for 'a', which is not its shape"),
        ("negative", {"shape": [-2, -3]}, "negative size"),
        ("beyond", {"shape": [2, 300], "data_offsets": [0, 4800]}, "'a' should end at 4800"),
        ("kind", {"dtype": "I32", "shape": [12]}, "dtype I32"),
        ("unknown", {"dtype": "F4"}, "dtype 'F4'; known are"),
        ("list", {"dtype": [1]}, r"dtype \[1\]; known are"),
        ("words", {"shape": "ab"}, "is not dtype, shape"),
        ("digits", {"shape": "23"}, "is not dtype, shape"),
        ("fraction", {"shape": [2, 3.5]}, "is not dtype, shape"),
        ("axes", {"shape": [2, 3] + [1] * 80}, "82 axes"),
        ("huge", {"shape": [0, 10**30], "data_offsets": [0, 0]}, "cannot have"),
    ):  # fmt: skip
        tensors = tmp_path / f"{name}.safetensors"
        write_safetensors(tensors, {"a": weights(2, 3)}, header=lambda head, new=change: {"a": head["a"] | new})
        yield tensors, sentence


def test_a_file_that_lies_is_refused_in_a_sentence(tmp_path):
    for path, sentence in spoiled(tmp_path):
        with pytest.raises(OptionError, match=sentence) as caught:
            weight_files.read(path)
        assert "\n" not in str(caught.value)


def test_sizes_are_checked_before_memory_is_taken(tmp_path):
    np.save(tmp_path / "a.npy", weights(40, 40))
    np.savez_compressed(tmp_path / "a.npz", np.zeros((4000, 4000)))
    write_safetensors(tmp_path / "a.safetensors", {"a": weights(40, 40)})
    np.savez(tmp_path / "b.npz", *np.zeros((9, 20)))
    for name in ("a.npy", "a.npz", "a.safetensors", "b.npz"):
        with pytest.raises(OptionError, match=r"more than the .* GiB allowed"):
            weight_files.read(tmp_path / name, most=1000)


def test_a_compressed_array_is_refused_by_the_size_that_it_declares(tmp_path):
    """A few bytes that say they unpack to 3.6 GB, as zeros do."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a.npy", "w") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": (3_600_000_000,)}
            )
        archive.filelist[0].file_size = 3_600_000_128
    with pytest.raises(OptionError, match=r"holds 3\.4 GiB unpacked, more than the 1\.0 GiB allowed"):
        weight_files.read(tmp_path / "a.npz")


def test_names_are_sorted_by_their_numbers_whatever_these_are(tmp_path):
    names = ["a²", "a9", "a10", "a" + "1" * 5000]
    np.savez(tmp_path / "a.npz", **dict.fromkeys(names, weights(2)))
    assert list(weight_files.read(tmp_path / "a.npz")) == ["a9", "a10", "a" + "1" * 5000, "a²"]


KINDS = ["layers", "heads", "heatmap", "entropy", "rollout", "flow", "rows", "arcs", "training"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_written(kind, model, tmp_path, capsys):
    path, _ = model
    output = tmp_path / ("out.gif" if kind == "training" else "out.png")
    command = ["plot", str(path), "--kind", kind, "-o", str(output), "--tokens", "a b $c$ d e"]
    if kind in ("heads", "heatmap", "rows", "arcs"):
        command += ["--layer", "1"]
    if kind in ("heatmap", "rows", "arcs"):
        command += ["--heads", "2"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(output)
    with Image.open(output) as image:
        assert image.size[0] > 200


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_ending_says_the_format_and_the_axes_the_kind(ending, model, tmp_path):
    path, _ = model
    assert main(["plot", str(path), "-o", str(tmp_path / f"a.{ending}")]) == 0
    assert (tmp_path / f"a.{ending}").read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")


def test_without_output_the_text_is_printed(model, tmp_path, capsys):
    path, layers = model
    names = tmp_path / "tokens.txt"
    names.write_text("eins\nzwei\ndrei\nvier\nfünf\n", encoding="utf-8")
    command = ["plot", str(path), "--layer", "1", "--heads", "0,2", "--reduce", "mean", "--tokens", str(names)]
    assert main(command) == 0
    out = capsys.readouterr().out
    mean = layers[1, [0, 2]].mean(axis=0)
    assert out.splitlines()[2].split() == ["eins", *(f"{100 * w:.0f}" for w in mean[0])]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--kind", "heatmap", "-o", "x.png"], "several matrices"), (["--layer", "7"], "there are 3 layers"),
        (["--heads", "a"], "--heads 'a' must be numbers"), (["--heads", "9"], "there are 4 --heads"),
        (["-o", "x.jpeg"], "jpeg"), (["--name", "arr_9"], "arr_9"), (["--kind", "pie"], "invalid choice"),
        (["--layer", "0", "--heads", "0", "--tokens", "a b"], "2 labels for 5"),
    ],
)  # fmt: skip
def test_a_wrong_command_gets_a_sentence(arguments, sentence, model, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", str(model[0]), *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("x.*"))


def test_rows_that_do_not_sum_to_one_are_said_on_stderr(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.eye(3) * 0.5)
    assert main(["plot", str(tmp_path / "a.npy"), "-o", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().err == "attention-ref plot: heatmap: 3 of 3 rows sum to 0.5, not 1\n"


def test_a_batch_axis_needs_a_choice(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", *weights(2, 3, 2, 4, 4))
    assert main(["plot", str(tmp_path / "a.npz"), "--layer", "0", "--heads", "0"]) == 2
    assert "--batch" in capsys.readouterr().err
    assert main(["plot", str(tmp_path / "a.npz"), "--batch", "2", "--layer", "0", "--heads", "0"]) == 0


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (3, 0, 4), (0, 2, 4, 4)])
@pytest.mark.parametrize("output", [[], ["-o", "a.png"]], ids=["text", "picture"])
def test_a_matrix_without_rows_is_refused(shape, output, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.zeros(shape))
    assert main(["plot", "a.npy", *output]) == 2
    assert capsys.readouterr().err == f"attention-ref: the weights have shape {shape}: there is nothing to draw\n"


def test_a_matrix_of_nan_has_no_row_that_sums_to_one(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.full((3, 3), np.nan))
    assert main(["plot", str(tmp_path / "a.npy")]) == 0
    out = capsys.readouterr().out
    assert "3 of 3 rows hold NaN or ∞. No row has weights that could sum to 1." in out
    assert "sums to 1" not in out


ESCAPE = "\x1b[2J"


def test_no_escape_of_a_strangers_reaches_the_terminal(tmp_path, capsys):
    """Tokens, names of arrays and of files are theirs; the terminal obeys none of them."""
    tokens = tmp_path / "tokens.txt"
    tokens.write_text(f"a{ESCAPE}\nb\u202e\n", encoding="utf-8")
    evil = tmp_path / f"w{ESCAPE}.npz"
    np.savez(evil, **{f"a{ESCAPE}": np.eye(2), f"b{ESCAPE}": np.eye(3)})
    half = tmp_path / "half.npy"
    np.save(half, np.eye(2) / 2)
    for command in (
        [str(half), "--tokens", str(tokens)],
        [str(half), "--tokens", str(tokens), "--kind", "arcs", "-o", str(tmp_path / f"{ESCAPE}.png")],
        [str(evil)],
        [str(evil), "--name", "c"],
        [str(evil), "--name", f"a{ESCAPE}", "--tokens", f"a{ESCAPE} b c"],
        [str(tmp_path / f"{ESCAPE}.npy")],
    ):
        main(["plot", *command])
        printed = "".join(capsys.readouterr())
        assert printed
        assert "\x1b" not in printed
        assert "\u202e" not in printed


def test_tokens_that_are_no_text_are_refused(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.eye(2))
    (tmp_path / "tokens.txt").write_bytes(b"\xff\n\xfe\n")
    assert main(["plot", str(tmp_path / "a.npy"), "--tokens", str(tmp_path / "tokens.txt")]) == 2
    assert "tokens.txt: is no text in UTF-8" in capsys.readouterr().err

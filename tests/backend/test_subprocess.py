"""Programs as candidates: every way in which a program can misbehave."""

import json
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.backend import wire
from attention_ref.backend.command import Command

ROOT = Path(__file__).parents[2]

GOOD = """
import sys, os, json, struct, time
sys.path.insert(0, {root!r})
from attention_ref.backend import wire
import attention_ref as ar
arrays, words = wire.decode(sys.stdin.buffer.read())
o = ar.attention(**{{name: arrays[name] for name in "qkv"}}).o
out = wire.encode({{"o": o}}, {{}})
"""


@pytest.fixture
def program(tmp_path):
    def written(line):
        path = tmp_path / "program.py"
        path.write_text(GOOD.format(root=str(ROOT)) + line)
        return Command([sys.executable, str(path)], timeout=20)

    return written


WRITE = "sys.stdout.buffer.write({})"


@pytest.mark.parametrize(
    ("line", "verdict", "sentence"),
    [
        (WRITE.format("out"), "pass", ""),
        (WRITE.format("out[:-5]"), "error", r"what it wrote has \d+ bytes of data, and 'o' should end at \d+"),
        (WRITE.format("out[:40]"), "error", r"what it wrote has 40 bytes, fewer than its header of \d+ needs"),
        (WRITE.format("out[:3]"), "error", "what it wrote has 3 bytes, too few for the length of a header"),
        ("", "error", "it wrote nothing on standard output"),
        ("print('scores:', o)", "error", "what it wrote is not safetensors: the first 8 bytes"),
        (
            WRITE.format("struct.pack('<Q', 9) + b'{\"o\": 12}'"),
            "error",
            "what it wrote is not safetensors: the header",
        ),
        (
            WRITE.format("out.replace(b'F32', b'F31')"),
            "error",
            "what it wrote has 'o' in the dtype 'F31'; known are F64",
        ),
        (
            WRITE.format("out.replace(b'[2, 3, ', b'[2, 2, ')"),
            "error",
            r"what it wrote has \d+ bytes for 'o', which is not its shape",
        ),
        (
            WRITE.format("struct.pack('<Q', 200_000) + 200_000 * b'['"),
            "error",
            "what it wrote is not safetensors: the header is not the JSON object",
        ),
        ("os.abort()", "error", "it crashed with SIGABRT"),
        ("raise ValueError('no such size')", "error", "it ended with exit status 1: ValueError: no such size"),
        (WRITE.format("wire.encode({}, {'unsupported': 'no tail'})"), "unsupported", "no tail"),
        (WRITE.format("wire.encode({'o': 2 * o}, {})"), "fail", "o is off by"),
        (WRITE.format("wire.encode({'out': o}, {})"), "error", "it returned a dict without 'o'"),
    ],
)
def test_every_way_to_answer_is_a_verdict(program, line, verdict, sentence):
    run = ar.check(program(line), cases="shape-15x15").runs[0]
    assert (run.verdict, bool(re.match(sentence, run.sentence))) == (verdict, True), run.sentence


def test_a_program_that_hangs_is_ended(program):
    command = program("time.sleep(60)")
    command.timeout = 1.0
    assert ar.check(command, cases="shape-15x15").runs[0].sentence == "it had not answered after 1 s and was ended"


def test_a_program_that_is_not_there():
    sentence = ar.check(Command("./no_such_program"), cases="shape-15x15").runs[0].sentence
    assert sentence == "it cannot be started: No such file or directory: ./no_such_program"
    with pytest.raises(ar.OptionError, match="the command is empty"):
        Command("")


def test_what_goes_in_is_what_the_page_says(tmp_path):
    path = tmp_path / "echo.py"
    path.write_text("import sys\nopen(sys.argv[1], 'wb').write(sys.stdin.buffer.read())")
    seen = tmp_path / "seen"
    ar.check(Command([sys.executable, str(path), str(seen)]), cases="dropout-mask,window-left")
    content = seen.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header["__metadata__"] == {
        "protocol": "1", "role": "forward", "option.window": "[5, null]", "option.align": '"bottom_right"'
    }  # fmt: skip
    assert set(header) == {"__metadata__", "q", "k", "v"}
    assert header["q"]["dtype"] == "F32"
    page = (ROOT / "docs/subprocess-protocol.md").read_text()
    for word in ("protocol", "role", "option.NAME", "unsupported", *wire.NAMES):
        assert word in page


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bool", "int64", "int32", "uint8"])
def test_the_wire_keeps_every_bit(dtype):
    x = np.random.default_rng(0).integers(0, 200, (2, 0, 3)).astype(dtype)
    y = np.random.default_rng(0).integers(0, 200, (2, 3)).astype(dtype)
    arrays, words = wire.decode(wire.encode({"x": x, "y": y.T, "z": y[0, 0].reshape(())}, {"a": "β"}))
    assert words == {"a": "β"}
    for got, want in zip(arrays.values(), (x, y.T, y[0, 0].reshape(())), strict=True):
        assert (got.dtype, got.shape, got.tobytes()) == (want.dtype, want.shape, want.tobytes())


def test_arrays_in_the_same_bytes_are_refused():
    x = np.zeros(3)
    content = wire.encode({"a": x, "b": x, "c": x[:0]}, {})
    assert len(wire.decode(content)[0]) == 3
    with pytest.raises(ValueError, match="has 'a' and 'b' in the same bytes"):
        wire.decode(content.replace(b"[24, 48]", b"[ 8, 32]"))

"""The readers in C and JavaScript: they judge a naive attention by the vectors, and see a slip in it."""

import subprocess
from pathlib import Path

import pytest

from attention_ref.vectors import encoding

READERS = Path(encoding.__file__).parent / "readers"


def compiled(folder, source):
    (folder / "check.c").write_text(source)
    flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", folder / "check", folder / "check.c", "-lm"], check=True)
    return [str(folder / "check")]


def scripted(folder, source):
    (folder / "check.js").write_text(source)
    return ["node", str(folder / "check.js")]


READER = {"c": compiled, "js": scripted}


def judged(folder, language, file, model="f64", right="", slip=""):
    source = (READERS / f"check.{language}").read_text()
    assert right in source
    command = READER[language](folder, source.replace(right, slip) if right else source)
    return subprocess.run([*command, encoding.DATA / f"{file}.json", model], capture_output=True, text=True)


@pytest.mark.parametrize("language", READER)
@pytest.mark.parametrize("file", ["scaled_dot", "dot"])
@pytest.mark.parametrize(("model", "least"), [("f64", 43), ("f32", 40), ("bf16/f32acc", 38)])
def test_a_naive_attention_passes(tmp_path, language, file, model, least):
    done = judged(tmp_path, language, file, model)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split()[0]) >= least


SLIPS = [
    ("c", "j > here)", "j > i)", "bottom right"),
    ("c", "- row)", ")", "random mask"),
    ("c", "? S - L :", "? L - S :", "decode step"),
    ("js", "j <= i + offset)", "j <= i)", "bottom right"),
    ("js", "- row)", ")", "random mask"),
    ("js", "Math.exp(x - m)", "Math.exp(x)", "hundreds"),
]


@pytest.mark.parametrize(("language", "right", "slip", "seen"), SLIPS)
def test_a_slip_is_seen(tmp_path, language, right, slip, seen):
    done = judged(tmp_path, language, "dot", right=right, slip=slip)
    assert done.returncode == 1
    assert seen in done.stdout

"""The conformance matrix: its cells, its table, and the copy in the README, which is made and not typed."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from attention_ref.cli import matrix as command
from attention_ref.cli.main import main
from attention_ref.conformance import libraries, matrix
from attention_ref.conformance.libraries import Known, Preset

ROOT = Path(__file__).parents[2]


def made(verdict="pass", result="o", score=0.25, sentence=""):
    worst = {"score": score, "ulps": 2.0}
    known = [sentence] if verdict == "known" else []
    return {"result": result, "verdict": verdict, "sentence": sentence, "worst": worst, "known": known}


def run(case, *results, dtype="float32", verdict=None):
    verdict = verdict or min((one["verdict"] for one in results), key=matrix.ORDER.index)
    sentence = next((one["sentence"] for one in results if one["verdict"] == verdict), "")
    return {
        "case": case, "dtype": dtype, "verdict": verdict, "sentence": sentence, "results": list(results),
        "model": "f32",
        "seconds": 0.5,
    }  # fmt: skip


def report(*runs):
    return {"runs": list(runs), "backend": "numpy 2", "vanished": []}


def test_a_cell_is_the_worst_of_its_cases():
    row = matrix.row_of(
        report(
            run("a", made(score=0.5), made(result="dq", score=0.125)),
            run("b", made(score=0.25), made("known", "dq", sentence="a leak")),
            run("c", made("fail", score=9.0), dtype="float64"),
        ),
        "float32",
    )
    assert row["forward"] == {"verdict": "pass", "cases": 2, "score": 0.5, "ulps": 2.0}
    assert row["backward"] == {"verdict": "known", "cases": 2, "score": 0.125, "ulps": 2.0}
    assert (row["verdict"], row["known"], row["findings"]) == ("known", ["a leak"], [])


def test_what_fails_is_a_finding():
    row = matrix.row_of(report(run("a", made("fail", score=3.0)), run("b", made())), "float32")
    assert (row["verdict"], row["findings"], row["forward"]["verdict"]) == ("fail", ["a"], "fail")
    assert command.status({"rows": [row]}) == 1
    assert command.status({"rows": [{"verdict": "not run on this machine"}]}) == 3


def test_a_cell_of_nothing_but_errors_says_so():
    row = matrix.row_of(report(run("a", made("unsupported", "dq"), verdict="error")), "float32")
    head = {"preset": "made.up", "rule": "dot", "dtype": "float32"}
    assert (row["verdict"], row["findings"], row["forward"]["verdict"]) == ("error", ["a"], "error")
    data = {"date": "", "python": "", "versions": [], "cases": ["a"], "seed": 0, "rows": [head | row]}
    assert "| error<br>error |" in matrix.markdown(data)


def test_the_matrix_of_a_library(monkeypatch, tmp_path, capsys):
    """In this process, so that a preset can be made up."""
    known = (Known("a leak", ("DeadRow",), convention={"empty_row": "uniform"}),)

    def call(q, k, v, *, allowed=None):
        import attention_ref as ar

        return ar.attention(q, k, v, allowed=allowed, empty_row="uniform").o

    def in_process(command, **more):
        arguments = command[3:]
        assert main(arguments) == 0

    preset = Preset("made.up", "numpy", call, known=known, rules={"scaled_dot": {}}, dtypes=("float32",))
    far = Preset("far.away", "torch", call, dtypes=("float16",), device="cuda")
    monkeypatch.setattr(libraries, "presets", lambda: {"made.up": preset, "far.away": far})
    timed_out = matrix.subprocess.TimeoutExpired
    monkeypatch.setattr(matrix, "subprocess", SimpleNamespace(run=in_process, TimeoutExpired=timed_out))
    readme, data = tmp_path / "README.md", tmp_path / "matrix.json"
    readme.write_text(f"before\n{matrix.BEGIN}\nold\n{matrix.END}\nafter\n")
    arguments = ["matrix", "--small", "--readme", str(readme), "--json", str(data)]
    assert main([*arguments, "--figure", str(tmp_path / "matrix.png")]) == 0
    first, second, _ = json.loads(data.read_text())["rows"]
    assert (first["verdict"], first["known"], first["forward"]["cases"]) == ("known", ["a leak"], 6)
    assert second["verdict"] in ("not run on this machine", "torch is not installed")
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    line = next(line for line in text.splitlines() if line.startswith("| `made.up` | scaled_dot | "))
    assert line.split(" | ")[2].startswith("known 0.0")
    assert line.endswith(" | 6 | [1] |")
    assert line.split(" | ")[3] == ""
    assert "old" not in text
    assert (tmp_path / "matrix.png").stat().st_size > 1000
    capsys.readouterr()
    assert main(["matrix", "--from", str(data)]) == 0
    assert capsys.readouterr().out.strip() in text


def test_a_readme_without_a_place_is_refused(tmp_path, capsys):
    path = tmp_path / "README.md"
    path.write_text("nothing")
    assert main(["matrix", "--from", str(ROOT / "docs/matrix.json"), "--readme", str(path)]) == 2
    assert "has no place for the matrix" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["README.md"])
def test_the_copy_in_the_readme_is_the_one_that_was_made(name):
    data = json.loads((ROOT / "docs/matrix.json").read_text(encoding="utf-8"))
    text = (ROOT / name).read_text(encoding="utf-8")
    assert matrix.placed(text, matrix.markdown(data)) == text, (
        "make it again: attention-ref matrix --from docs/matrix.json --readme README.md"
    )
    assert all(not row.get("findings") for row in data["rows"])

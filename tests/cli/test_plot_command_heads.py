"""`attention-ref plot`: chosen heads keep their numbers, combined heads are named, text goes to a file."""

import numpy as np
import pytest
from plot_help import weights

from attention_ref.cli.main import main


@pytest.fixture
def file(tmp_path):
    np.save(tmp_path / "w.npy", weights(3, 4, 6, 6))
    return str(tmp_path / "w.npy")


def svg(tmp_path, *args):
    out = tmp_path / "out.svg"
    assert main(["plot", *args, "-o", str(out)]) == 0
    return out.read_text(encoding="utf-8")


def test_chosen_heads_keep_their_numbers(file, tmp_path):
    for more in ([], ["--layer", "1"], ["--layer", "1", "--heads", "2"]):
        page = svg(tmp_path, file, "--heads", "2,3", *more)
        assert "head 2" in page
        assert "head 0" not in page


@pytest.mark.parametrize("more", [[], ["--layer", "1"], ["--layer", "1", "--kind", "heads"]])
def test_combined_heads_are_named_and_not_warned_of(file, tmp_path, capsys, more):
    assert "max over" in svg(tmp_path, file, "--reduce", "max", *more)
    assert "sum to" not in capsys.readouterr().err


def test_text_goes_to_the_file_asked_for(file, tmp_path):
    out = tmp_path / "out.txt"
    assert main(["plot", file, "--layer", "0", "--heads", "1", "--kind", "text", "-o", str(out)]) == 0
    assert out.read_text(encoding="utf-8").startswith("weights in percent")

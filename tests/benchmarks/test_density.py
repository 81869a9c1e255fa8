"""The counts of code are those that one makes by hand."""

import pytest

from benchmarks import density

SOURCE = '''\
"""A module."""


def nested(a: int):  # why
    """A docstring with a # sign."""
    return 1 if a else 2 if a > 1 else 3  # noqa: F821


class Thing:
    def plain(self):
        # another why
        return [x for x in {y: z for y, z in self}], (x for x in "if # for")

    async def typed(self, *rest: str, key=lambda: 0) -> None: ...
'''


def test_the_counts_of_a_file(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.py").write_text(SOURCE)
    (tmp_path / "notes.txt").write_text("1 if a else 2  # no Python")
    count = density.counts(tmp_path)
    assert count == {
        "files": 1,
        "lines": 14,
        "conditional": 2,
        "nested": 1,
        "comprehension": 3,
        "comment": 2,
        "function": 3,
        "annotated": 2,
        "documented": 1,
    }
    assert density.counts(tmp_path / "inner" / "a.py") == count


def test_the_command_sets_folders_side_by_side(tmp_path, capsys):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "new" / "a.py").write_text(SOURCE)
    assert density.main([str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    page = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert page[0] == ["old", "new"]
    assert ["functions", "annotated,", "%", "-", "66.7", "(2)"] in page
    with pytest.raises(SystemExit, match="2"):
        density.main([str(tmp_path / "nowhere")])

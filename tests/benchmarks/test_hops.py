"""The count of entered functions sees the package's own, named ones, and each call of them."""

import attention_ref as ar
from attention_ref.pipeline.options import is_default
from benchmarks import hops


def test_each_call_of_a_named_function_counts():
    def call():
        is_default(1, 2)
        is_default(1, 1)
        return len([len(name) for name in ar.rules])

    list(ar.rules)  # the registry is filled when it is first looked into
    result, count = hops.entered(call)
    assert result == len(ar.rules)
    assert [times for (file, name), times in count.items() if name.startswith("is_default:")] == [2]
    assert {file for file, _ in count} == {"pipeline/options.py", "op/registry.py"}


def test_the_command_counts_both_directions(capsys):
    assert hops.main(["--list"]) == 0
    page = capsys.readouterr().out
    assert "forward " in page
    assert "backward " in page
    assert "pipeline/attention.py  attention:" in page

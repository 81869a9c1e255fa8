"""The tests that need an optional package are collected where it is installed."""

from importlib.util import find_spec

NEEDS = {"torch": "test_torch*.py", "ml_dtypes": "test_lowprecision*.py"}
collect_ignore_glob = [tests for package, tests in NEEDS.items() if not find_spec(package)]

"""The functions that one default causal call enters, and its backward: how far a reader has to go from q to o and back.

python -m benchmarks.hops            # --list names them, in the order of their first call

Another version of the package is measured from elsewhere, so that this checkout's is not found before it:
cd / && PYTHONPATH=/path/to/other:/path/to/this/checkout python -m benchmarks.hops
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

import attention_ref as ar

PACKAGE = Path(ar.__file__).parent


def entered(call):
    """(what the call returns, {(file, function): how often it is entered}), of the package's named functions.

    Lambdas, comprehensions and the bodies of classes and modules have no name to go to, and are not counted.
    """
    count: Counter[tuple[str, str]] = Counter()

    def watch(frame, event, argument):
        code = frame.f_code
        path = Path(code.co_filename)
        if event == "call" and not code.co_name.startswith("<") and path.is_relative_to(PACKAGE):
            name = getattr(code, "co_qualname", code.co_name)  # from Python 3.11 on with the class
            count[str(path.relative_to(PACKAGE)), f"{name}:{code.co_firstlineno}"] += 1

    sys.setprofile(watch)
    try:
        result = call()
    finally:
        sys.setprofile(None)
    return result, count


def measured():
    """{"forward": counts, "backward": counts}, after a first call, which imports and fills caches."""
    q, k, v, do = np.random.default_rng(0).standard_normal((4, 1, 2, 16, 8))
    ar.attention(q, k, v, causal=True).backward(do)
    attended, forward = entered(lambda: ar.attention(q, k, v, causal=True))
    _, backward = entered(lambda: attended.backward(do))
    return {"forward": forward, "backward": backward}


def main(argv=None):
    parser = argparse.ArgumentParser("python -m benchmarks.hops", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="name every function, in the order of its first call")
    args = parser.parse_args(argv)
    print(f"ar.attention(q, k, v, causal=True) of {PACKAGE}")
    for direction, count in measured().items():
        files = {file for file, _ in count}
        print(f"{direction:8} {len(count):4} functions in {len(files):3} files, {count.total():4} calls")
        if args.list:
            for (file, name), times in count.items():
                print(f"  {times:4}  {file}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

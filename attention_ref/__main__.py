"""`python -m attention_ref` is `attention-ref`."""

import sys

from attention_ref.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

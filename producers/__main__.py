"""``python -m producers``: the same as the command ``headrace``."""

import sys

from producers.cli import main

if __name__ == "__main__":
    sys.exit(main())

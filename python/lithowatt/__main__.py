"""``python -m lithowatt``: the command line."""

import sys

from lithowatt.cli import main

if __name__ == "__main__":
    sys.exit(main())

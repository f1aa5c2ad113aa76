"""``python -m lithowatt``: the command line."""

import sys

from lithowatt.cli import main

sys.exit(main())

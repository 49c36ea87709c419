"""Makes `python -m cli` the same as `bidist`, even where the project is not installed."""

import sys

from cli.main import main

if __name__ == "__main__":
    sys.exit(main())

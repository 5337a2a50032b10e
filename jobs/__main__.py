"""`python -m prereq.jobs`, the same program as `prereq`."""

import sys

from prereq.jobs.cli import main

if __name__ == "__main__":
    sys.exit(main())

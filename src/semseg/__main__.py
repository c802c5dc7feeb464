"""`python -m semseg` is the command `semseg`."""

import sys

from semseg.cli import main

sys.exit(main())

"""`python -m lookalike`: the command."""

import sys

from lookalike.cli import main

sys.exit(main())

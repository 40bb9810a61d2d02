"""`python -m runtime.cli`: the command where no script is installed."""

from __future__ import annotations

import sys

from .main import main

sys.exit(main())

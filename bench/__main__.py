"""`python -m bench`, which is what `make bench` calls."""

from __future__ import annotations

import sys

from bench.run import main

sys.exit(main())

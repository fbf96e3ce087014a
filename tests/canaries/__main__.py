"""`python -m tests.canaries`: writes the table of docs/canaries.md to the terminal."""

from __future__ import annotations

import sys

from tests.canaries.table import as_markdown

sys.stdout.write(as_markdown())

"""Words for /bin/sh, quoted in one place."""

from __future__ import annotations

import shlex

quote = shlex.quote

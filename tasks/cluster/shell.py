"""Words for /bin/sh, quoted in one place."""

import shlex

quote = shlex.quote

"""``python -m draggan`` is the ``draggan`` command."""

import sys

from draggan.cli import main

sys.exit(main())

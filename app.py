"""The page: ``python app.py``, then open the address it prints. Also the entry of a Hugging Face Space.

An installed package has it as ``draggan app``.
"""

from __future__ import annotations

import sys

from draggan.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

"""Entry of ``python -m segmentation.cli``, which the launcher ``metia`` runs."""

from __future__ import annotations

import sys

try:
    import click  # noqa: F401 - stands for all that must be installed
except ModuleNotFoundError:
    sys.stderr.write("metia: packages are missing; run `make install` first.\n")
    sys.exit(6)

from segmentation.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

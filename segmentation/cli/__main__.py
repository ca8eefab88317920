"""Entry of ``python -m segmentation.cli``, which the launcher ``metia`` runs."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from segmentation.cli.main import main
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"metia: the package {error.name} is missing; run `make setup` first.\n"
        )
        sys.exit(6)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(main(sys.argv[1:]))

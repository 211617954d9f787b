"""Makes ``python -m ipfs_dataset`` the same as ``ipfs-dataset``."""

from __future__ import annotations

import sys

from ipfs_dataset.cli import main

if __name__ == "__main__":
    sys.exit(main())

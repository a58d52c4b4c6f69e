"""``python -m benchmarks.models FOLDER``: write the benchmark networks, 2:4 pruned, float32 and static-QDQ int8.

Files that are there already are kept; delete them to build them anew.
"""

import argparse
from pathlib import Path

from benchmarks.models.networks import DTYPES, NETWORKS, compressed_file, dense_file


def main() -> None:
    """Build, prune, quantise, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--compressed", action="store_true", help="the compressed files as well")
    options = parser.parse_args()
    for name in options.network:
        for dtype in options.dtype:
            print(dense_file(options.folder, name, dtype))
            if options.compressed:
                print(compressed_file(options.folder, name, dtype))


if __name__ == "__main__":
    main()

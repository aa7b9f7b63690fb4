"""How small the int8 file of a build is beside its float32 file, as it is and compressed.

Usage: python bench/file_size.py RUN...
RUN is a build's folder. Wanted: compressed at most an eighth of the float32 file. Deflate is what zip and gzip do; xz
is smaller and slower. Exit status 1 where deflate misses it.
"""

from __future__ import annotations

import lzma
import sys
import zlib
from pathlib import Path

WANTED = 1 / 8


def deflated(data: bytes) -> int:
    """Bytes after zip's deflate at its strongest, without headers."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return len(packer.compress(data) + packer.flush())


def main() -> int:
    """A line a build."""
    missed = 0
    print("| build | float32, bytes | int8, bytes | deflate | of float32 | xz | of float32 |")
    print("|---|---|---|---|---|---|---|")
    for run in map(Path, sys.argv[1:]):
        whole = len((run / "quantize/model.float32.tflite").read_bytes())
        int8 = (run / "quantize/model.int8.tflite").read_bytes()
        small, smaller = deflated(int8), len(lzma.compress(int8, preset=9 | lzma.PRESET_EXTREME))
        missed += small > WANTED * whole
        shares = f"{small:,} | 1/{whole / small:.2f} | {smaller:,} | 1/{whole / smaller:.2f}"
        print(f"| {run.name} | {whole:,} | {len(int8):,} | {shares} |")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

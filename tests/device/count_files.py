"""Runs on the emulated board, below `count`: marks the second inference of every file of the archive on its input."""

from __future__ import annotations

import ctypes
import sys

from edge_runtime.timing import inference_of, read_models

MARK = 0x51454D55
libc = ctypes.CDLL(None)
for number, (name, model) in enumerate(read_models(sys.stdin.buffer)):
    infer = inference_of(name, model)
    infer()
    libc.prctl(MARK, number, 0, 0, 0)
    infer()
    libc.prctl(MARK, number, 0, 0, 0)

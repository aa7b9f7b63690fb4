"""The process that a delegate runs in: pictures come in, answers go out, and a crash takes nothing else along.

In: the length of a pickled `Job` and the job, then uint8 pictures of its size. Out: frames of a kind, a length and a
body: `ready`, then for each picture an `answer`, the float32 outputs in the order of `Job.entry.outputs`; or `failed`.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import signal
import struct
import sys
from typing import BinaryIO

import numpy as np

from edge_runtime.delegates import DELEGATES, DelegateFailure, Engine, Job

HEADER = struct.Struct("<4sI")
LENGTH = struct.Struct("<Q")
READY, ANSWER, FAILED = b"redy", b"answ", b"fail"
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until the input ends."""
    die_with_parent(os.getppid())
    # Native code prints to the standard output as it likes: answers go where it cannot.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pictures = sys.stdin.buffer
    job = pickle.loads(pictures.read(LENGTH.unpack(pictures.read(LENGTH.size))[0]))
    try:
        _serve(job, pictures, replies)
    except BrokenPipeError:
        return
    except DelegateFailure as failure:
        _send(replies, FAILED, str(failure).encode())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason, and the CPU goes on
        _send(replies, FAILED, f"it failed ({type(error).__name__}: {error})".encode())


def _serve(job: Job, pictures: BinaryIO, replies: BinaryIO) -> None:
    network: Engine = importlib.import_module(DELEGATES[job.kind]).open_network(job)
    shape = (job.side_px, job.side_px, job.channels)
    _send(replies, READY, b"")
    while len(data := pictures.read(int(np.prod(shape)))) == np.prod(shape):
        network.run(np.frombuffer(data, np.uint8).reshape(shape))
        outputs = [network.output(role) for role in job.entry.outputs]
        _send(replies, ANSWER, b"".join(output.astype("<f4").tobytes() for output in outputs))


def _send(replies: BinaryIO, kind: bytes, body: bytes) -> None:
    replies.write(HEADER.pack(kind, len(body)) + body)
    replies.flush()


def die_with_parent(parent: int) -> None:
    """Ask Linux to end this process with its parent, even where it hangs in native code.

    The signal comes with the end of the thread that started the child: a delegate is opened in one that lasts.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

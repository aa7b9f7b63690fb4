"""A library of the user's own, through `load_delegate`: the classic TFLite GPU delegate, Edge TPU, a vendor's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.delegates import DelegateFailure, Job
from edge_runtime.delegates.cpu import network_on
from edge_runtime.interpreter import Network
from edge_runtime.interpreters import find
from edge_runtime.machine import graphics_driver


def refusal(_: Job) -> str | None:
    """Nothing is known of a library before it is loaded."""
    return None


def driver(job: Job) -> str:
    """The library's bytes, and the machine's drivers below it."""
    digest = hashlib.sha256(Path(job.library).read_bytes()).hexdigest()
    return f"{digest} {graphics_driver()}"


def proof(job: Job, _: Sequence[str]) -> str:
    """The library is what was named: nothing tells what it runs on but its results and its time."""
    return Path(job.library).name


def open_network(job: Job) -> Network:
    """The network on that delegate; what it does not take stays on the CPU. Raises DelegateFailure."""
    package = find(job.interpreter)
    try:
        delegate = package.load_delegate(job.library, dict(job.options))
    except OSError as error:
        raise DelegateFailure(f"its library cannot be loaded ({error})") from None
    except AttributeError:
        raise DelegateFailure("its library is no TFLite delegate: it lacks tflite_plugin_create_delegate") from None
    except ValueError as error:
        raise DelegateFailure(f"it refuses to start ({str(error).strip() or 'without a reason'})") from None
    return network_on(job, package, delegate)

"""TensorFlow and tf_keras, imported in one place, late, and the right way round.

Keras 2 (tf_keras) is what the pruning toolkit works on; the choice must be made before TensorFlow is imported.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from edge.errors import EdgeError
from edge.native_stderr import without_chatter

_REMEDY = "pip install 'edge-screen[convert]' on the workstation"


def tensorflow() -> Any:
    """The tensorflow module. Raises EdgeError where the workstation's packages are not installed."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    try:
        with without_chatter():
            import tensorflow as module

            module.config.list_physical_devices()
    except ImportError as error:
        raise EdgeError(f"TensorFlow is not installed here ({error})", remedy=_REMEDY) from None
    module.get_logger().setLevel("ERROR")
    return module


def quantizer() -> tuple[Any, Any]:
    """The converter's own quantizer and what changes a file's input and output types: not public, but all there is."""
    tensorflow()
    from tensorflow.lite.python import convert, util

    return convert, util


def calibrator() -> Any:
    """The converter's older quantizer, as the class that is made from a float32 file: it alone makes 16x8 files."""
    tensorflow()
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    return Calibrator


def keras() -> Any:
    """The tf_keras module (Keras 2)."""
    tensorflow()
    try:
        import tf_keras as module
    except ImportError as error:
        raise EdgeError(f"tf_keras is not installed here ({error})", remedy=_REMEDY) from None
    return module


def model_optimization() -> Any:
    """The tensorflow_model_optimization module."""
    tensorflow()
    try:
        import tensorflow_model_optimization as module
    except ImportError as error:
        raise EdgeError(f"tensorflow-model-optimization is not installed here ({error})", remedy=_REMEDY) from None
    return module

"""The bare engines that `edge bench --compare` runs beside the runtime, each on the very TFLite file of the bundle.

None of them is a dependency: what is not installed is named and left out. Each is made to compute as the file says, in
float32 where that is float32, and gives all outputs: what is faster by computing something else is no rival.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge.native_stderr import without_chatter
from edge_runtime.interpreter import find_interpreter

Infer = Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]]
"""From an input tensor with its batch axis to the outputs, by the names that their tensors have in the TFLite file."""


class NotHere(Exception):
    """Why an engine is not compared."""


def bare_interpreter(model: bytes, threads: int) -> Infer:
    """The interpreter that the runtime uses: set the input, invoke, read the outputs, and nothing else."""
    made = find_interpreter()[1](model_content=model, num_threads=threads)
    with without_chatter():
        made.allocate_tensors()
    index = made.get_input_details()[0]["index"]
    outputs = {output["name"]: output["index"] for output in made.get_output_details()}

    def infer(picture: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        made.set_tensor(index, picture)
        made.invoke()
        return {name: made.get_tensor(output) for name, output in outputs.items()}

    return infer


def onnxruntime(model: bytes, threads: int) -> Infer:
    """onnxruntime on the file as tf2onnx translates it, in a process of its own: tf2onnx loads TensorFlow."""
    runtime = _require("onnxruntime")
    if importlib.util.find_spec("tf2onnx") is None:
        raise NotHere("tf2onnx is not installed")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.tflite", Path(folder) / "model.onnx"
        source.write_bytes(model)
        words = ["-m", "tf2onnx.convert", "--tflite", str(source), "--output", str(target), "--opset", "17"]
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        if not target.exists():
            lines = done.stderr.strip().splitlines()
            raise NotHere(f"tf2onnx cannot translate it ({lines[-1][:120] if lines else 'no reason given'})")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        session = runtime.InferenceSession(target.read_bytes(), options, providers=["CPUExecutionProvider"])
    name, outputs = session.get_inputs()[0].name, [output.name for output in session.get_outputs()]

    def infer(picture: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        return dict(zip(outputs, session.run(None, {name: picture}), strict=True))

    return infer


def openvino(model: bytes, threads: int) -> Infer:
    """OpenVINO, which reads TFLite files itself."""
    core = _require("openvino").Core()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.tflite"
        source.write_bytes(model)
        try:
            # By itself it takes bfloat16 where the processor has it: a probability was off by 0.018.
            options = {
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32",
            }
            compiled = core.compile_model(core.read_model(source), "CPU", options)
        except RuntimeError as error:
            raise NotHere(f"OpenVINO refuses it ({str(error).strip().splitlines()[-1][:120]})") from None

    request, outputs = compiled.create_infer_request(), {output.any_name: output for output in compiled.outputs}

    def infer(picture: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        found = request.infer([picture])
        return {name: found[output] for name, output in outputs.items()}

    return infer


def _require(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise NotHere(f"{package} is not installed") from None


ENGINES: dict[str, Callable[[bytes, int], Infer]] = {
    "interpreter": bare_interpreter,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
}

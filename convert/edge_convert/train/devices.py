"""The devices that train together: one, all GPUs of this machine, or several machines.

One code path: without a strategy TensorFlow's default one stands in, with a single replica.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EdgeError
from edge_convert.keras import keras, tensorflow
from edge_convert.recipe import Precision, Strategy


class Devices:
    """A tf.distribute strategy, and how a batch is dealt out to its replicas."""

    def __init__(self, strategy: Any, *, machines: bool = False) -> None:
        """machines: whether the replicas are spread over several processes, which must stay in step."""
        self.strategy, self.machines = strategy, machines
        self.replicas: int = strategy.num_replicas_in_sync

    @contextmanager
    def building(self, precision: Precision) -> Iterator[None]:
        """What is built inside lives on all devices and computes in the precision given."""
        policy = keras().mixed_precision.global_policy()
        keras().mixed_precision.set_global_policy(precision)
        try:
            with self.strategy.scope():
                yield
        finally:
            keras().mixed_precision.set_global_policy(policy)

    def deal(self, *arrays: NDArray[Any]) -> list[Any]:
        """Each array's rows in equal parts, a part a replica. Their number must divide: see `pad`."""
        if self.replicas == 1:
            return list(arrays)
        tf = tensorflow()

        def part(array: NDArray[Any]) -> Any:
            size = len(array) // self.replicas

            def of_replica(context: Any) -> Any:
                start = context.replica_id_in_sync_group * size
                return tf.constant(array[start : start + size])

            return self.strategy.experimental_distribute_values_from_function(of_replica)

        return [part(array) for array in arrays]

    def pad(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row numbers repeated from the first on until every replica gets as many; they must weigh nothing."""
        return np.resize(rows, -(-len(rows) // self.replicas) * self.replicas)

    def sum(self, parts: Any) -> Any:
        """The sum of the replicas' values."""
        return self.strategy.reduce(tensorflow().distribute.ReduceOp.SUM, parts, axis=None)

    def same_everywhere(self, number: int) -> bool:
        """Whether every machine gives the same number. All machines must ask at the same time."""
        if self.replicas == 1:
            return True
        tf = tensorflow()
        mine = self.strategy.run(lambda: tf.constant([float(number), float(number) ** 2], tf.float64))
        total, squares = (float(v) for v in self.sum(mine))
        return abs(squares * self.replicas - total * total) < 0.5


def devices(kind: Strategy) -> Devices:
    """The devices that a recipe asks for. Raises EdgeError where there is only one of them."""
    return STRATEGIES[kind]()


def _one() -> Devices:
    return Devices(tensorflow().distribute.get_strategy())


def _mirrored() -> Devices:
    config = tensorflow().config
    found = config.list_logical_devices("GPU") or config.list_logical_devices("CPU")
    if len(found) < 2:
        raise EdgeError(
            f"train.strategy is 'mirrored', and this machine has one device to train on ({found[0].name})",
            remedy="use train.strategy = 'none', or a machine with several GPUs",
        )
    return Devices(tensorflow().distribute.MirroredStrategy([device.name for device in found]))


@functools.cache
def _multi_worker() -> Devices:
    """Made once a process: TensorFlow joins the workers before anything else runs."""
    if "TF_CONFIG" not in os.environ:
        raise EdgeError(
            "train.strategy is 'multi-worker', and TF_CONFIG does not name the workers",
            remedy="set TF_CONFIG on each machine, see docs/training.md, or use train.strategy = 'none'",
        )
    tf = tensorflow()
    try:
        return Devices(tf.distribute.MultiWorkerMirroredStrategy(), machines=True)
    except (ValueError, RuntimeError, KeyError, tf.errors.OpError) as error:
        raise EdgeError(
            f"the workers that TF_CONFIG names did not come together: {str(error).splitlines()[0][:200]}",
            remedy="start the same command on every machine, and check the addresses in TF_CONFIG",
        ) from None


STRATEGIES: dict[Strategy, Callable[[], Devices]] = {"none": _one, "mirrored": _mirrored, "multi-worker": _multi_worker}

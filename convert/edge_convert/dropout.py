"""Dropout that is the same in every run, also in one that was killed and goes on."""

from __future__ import annotations

import functools
import zlib
from typing import Any

from edge_convert.keras import keras, tensorflow


@functools.cache
def seeded_dropout() -> Any:
    """The layer class. Made on first use: its base class comes with TensorFlow."""

    class SeededDropout(keras().layers.Layer):  # type: ignore[misc]
        """Dropout whose mask depends on its seed and on how often it was called, a weight saved with the others.

        Keras's own draws from a state that no checkpoint holds: training that goes on would drop other units.
        """

        def __init__(
            self, rate: float, seed: int, noise_shape: tuple[int | None, ...] | None = None, **options: Any
        ) -> None:
            """noise_shape: a 1 for each axis that is dropped as a whole, None for the others; None for no such axis."""
            super().__init__(**options)
            self.rate, self.seed, self.noise_shape = rate, seed, noise_shape

        def build(self, shape: Any) -> None:
            tf = tensorflow()
            self.calls = self.add_weight(
                name="calls",
                dtype=tf.int32,
                initializer="zeros",
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            super().build(shape)

        def call(self, inputs: Any, training: Any = None) -> Any:
            if not training or not self.rate:
                return inputs
            tf = tensorflow()
            replica = tf.distribute.get_replica_context()
            part = replica.replica_id_in_sync_group if replica is not None else 0
            shape = tf.shape(inputs)
            noise = [shape[i] if n is None else n for i, n in enumerate(self.noise_shape or [None] * inputs.shape.rank)]
            dropped = tf.nn.experimental.stateless_dropout(
                inputs,
                self.rate,
                seed=(self.seed + 1000003 * part, tf.convert_to_tensor(self.calls)),
                noise_shape=noise,
            )
            self.calls.assign_add(1)
            return dropped

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "rate": self.rate, "seed": self.seed, "noise_shape": self.noise_shape}

    return SeededDropout


def reseeded(layer: Any) -> Any:
    """A Keras dropout layer as a seeded one; its name is its seed."""
    config = layer.get_config()
    seed = zlib.crc32(layer.name.encode()) >> 1
    return seeded_dropout()(config["rate"], seed, config["noise_shape"], name=layer.name)

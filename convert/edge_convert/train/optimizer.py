"""Adam with a warm-up and a cosine, each block at its own rate."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from edge_convert.backbones.contract import Backbone
from edge_convert.keras import keras, tensorflow
from edge_convert.recipe import TrainRecipe

WARM_UP = 0.1


def make_optimizer(
    recipe: TrainRecipe, model: Any, backbone: Backbone, *, learning_rate: float, steps: int, average: bool
) -> Any:
    """An optimizer that is built for the model's trainable variables.

    average: keep a moving average of the weights, where the recipe has one; `finalize_variable_values` puts it in
    their place. Wrapped in a loss scale where the precision is float16.
    """
    ema = {"use_ema": True, "ema_momentum": recipe.ema} if average and recipe.ema else {}
    optimizer = _adam_by_block()(schedule(learning_rate, steps), **ema)
    optimizer.build(model.trainable_variables)
    optimizer.slow_down(block_rates(model, backbone, recipe.rate_decay))
    if recipe.precision == "mixed_float16":
        return keras().mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def plain_optimizer(optimizer: Any) -> Any:
    """The optimizer itself, out of its loss scale where it has one."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def state_of(optimizer: Any) -> list[Any]:
    """Every variable of an optimizer and of its loss scale, in an order that is the same in every run."""
    tf = tensorflow()
    found = {id(v): v for v in tf.train.TrackableView(optimizer).descendants() if isinstance(v, tf.Variable)}
    return list(found.values())


def schedule(learning_rate: float, steps: int) -> Any:
    """A short linear warm-up, then a cosine to nothing."""
    warm = max(1, round(WARM_UP * steps))
    return keras().optimizers.schedules.CosineDecay(
        initial_learning_rate=learning_rate / 50,
        decay_steps=max(1, steps - warm),
        warmup_target=learning_rate,
        warmup_steps=warm,
    )


def block_rates(model: Any, backbone: Backbone, decay: float) -> list[tuple[Any, float]]:
    """Each trainable variable with its share of the learning rate: `decay` to the power of the blocks behind it.

    The last layer and the last block learn at the full rate (Howard and Ruder 2018, section 3.2, and the layer-wise
    decay of Clark et al. 2020).
    """
    starts = set(backbone.block_starts)
    begun, rows = 0, []
    for layer in model.layers:
        # A pruned layer is wrapped; its name is what it wraps with a prefix.
        begun += getattr(layer, "layer", layer).name in starts
        rows += [(variable, begun) for variable in layer.trainable_variables]
    return [(variable, decay ** (begun - max(1, index))) for variable, index in rows]


@functools.cache
def _adam_by_block() -> Any:
    """The optimizer's class. Made on first use: its base class comes with TensorFlow."""
    tf = tensorflow()

    class AdamByBlock(keras().optimizers.Adam):  # type: ignore[misc]
        """Adam whose steps are scaled by a rate a variable.

        Scaling the gradients would change nothing: Adam divides their size out.
        """

        def slow_down(self, rates: list[tuple[Any, float]]) -> None:
            """Scale the steps of each variable by its rate."""
            self._rates: Mapping[str, float] = {
                self._var_key(variable): rate for variable, rate in rates if rate != 1.0
            }

        def update_step(self, gradient: Any, variable: Any) -> None:
            rate = self._rates.get(self._var_key(variable))
            if rate is None:
                super().update_step(gradient, variable)
                return
            before = tf.identity(variable)
            super().update_step(gradient, variable)
            variable.assign(before + rate * (variable - before))

    return AdamByBlock

"""TensorBoard's event files, written with TensorFlow alone; TensorBoard itself is only needed to look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.files import write_atomically
from edge_convert.keras import tensorflow
from edge_convert.train.epoch import Epoch


def require_writable(folder: Path) -> None:
    """Make the folder. Raises EdgeError where it cannot be written into."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / ".write-test", b"")
        (folder / ".write-test").unlink()
    except OSError as error:
        raise EdgeError(
            f"TensorBoard's logs cannot be written to {folder} ({error.strerror})", remedy="name another folder"
        ) from None


class Logs:
    """Scalars of training below one folder, a run a phase."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, Any] = {}

    def write(self, epoch: Epoch, *, learning_rate: float) -> None:
        """Add one epoch's measures."""
        self._scalars(
            epoch.phase.replace(": ", "-").replace(" ", "-"),
            epoch.epoch,
            {
                "loss": epoch.loss,
                "learning_rate": learning_rate,
                "validation/auc": epoch.validation_auc,
                "validation/average_precision": epoch.validation_average_precision,
                "validation/loss": epoch.validation_loss,
            },
        )

    def _scalars(self, run: str, step: int, values: dict[str, float | None]) -> None:
        # tf.summary.scalar needs the tensorboard package; its file format is in TensorFlow itself.
        tf = tensorflow()
        if run not in self._writers:
            self._writers[run] = tf.summary.create_file_writer(str(self.folder / run))
        summary = tf.compat.v1.Summary(
            value=[tf.compat.v1.Summary.Value(tag=tag, simple_value=v) for tag, v in values.items() if v is not None]
        )
        with self._writers[run].as_default():
            tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=step)
            self._writers[run].flush()

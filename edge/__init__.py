"""The contract both halves agree on (pictures, data sets, bundles, records) and the `edge` command."""

import os

__version__ = "0.1.0"

# OpenCV reads these two once, when it is loaded, so they are set before any module here can load it. A picture whose
# header promises more pixels than a small device has memory for is refused before anything is allocated.
MAX_PICTURE_PIXELS = 100_000_000
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PICTURE_PIXELS))
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

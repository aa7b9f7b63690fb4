"""The device half: from a picture to a verdict with numpy, OpenCV and one interpreter. Read `pipeline` first."""

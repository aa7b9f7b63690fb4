"""The workstation half: from labelled pictures to a bundle. TensorFlow lives only here. Read `pipeline` first."""

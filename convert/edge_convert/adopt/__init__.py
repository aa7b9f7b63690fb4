"""Other people's TFLite classifiers as bundles. Read pack.py first: its functions are the steps. No TensorFlow."""

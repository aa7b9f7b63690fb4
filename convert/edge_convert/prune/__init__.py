"""Pruning: zeros in kernels (magnitude.py), or whole channels removed (channels.py lists its steps; read it first)."""

"""Training. finetune.py lists its phases in order; read it first."""

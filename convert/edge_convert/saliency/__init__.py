"""What an exported model says about where it looked: a finer reading of its evidence, and maps on request."""

"""Shards → checkpoint → metric: the model, the loader, the step and everything that reads a checkpoint."""

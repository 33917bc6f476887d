"""Shards → checkpoint → metric: the model, the loader, the step and everything that reads a checkpoint."""

import varyforge.errors  # noqa: F401  # names a library that is missing when the command imports it

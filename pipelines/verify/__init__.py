"""The check and the comparison of shard sets."""

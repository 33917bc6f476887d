"""Shard sets checked and compared."""

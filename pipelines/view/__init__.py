"""Shard sets in the browser."""

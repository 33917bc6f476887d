"""The data card of a shard set."""

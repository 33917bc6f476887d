"""Mixtures: shown before a run, written as a shard set, listed step by step."""

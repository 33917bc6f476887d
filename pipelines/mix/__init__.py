"""Mixtures: a report before training, a written shard set, the samples of a step."""

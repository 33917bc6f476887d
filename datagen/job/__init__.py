"""The data job: a source's units become shards."""

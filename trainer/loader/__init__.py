"""The batches of a step."""

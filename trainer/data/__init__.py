"""The samples of a run and their order."""

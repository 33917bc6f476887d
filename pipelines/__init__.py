"""Whole runs: commands of `datagen` and `trainer` in order, and commands that check, show and mix their results."""

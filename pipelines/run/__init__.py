"""Whole runs: the data sets and stages of a recipe in order."""

"""Whole runs: data sets and stages in order."""

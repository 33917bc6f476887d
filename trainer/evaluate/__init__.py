"""Scores of models on held-out samples."""

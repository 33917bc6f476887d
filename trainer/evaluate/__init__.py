"""Evaluation of models on held-out samples."""

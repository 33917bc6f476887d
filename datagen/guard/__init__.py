"""Decontamination: images of benchmarks are kept out of training data."""

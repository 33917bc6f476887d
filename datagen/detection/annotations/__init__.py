"""Readers of box annotations in the formats in which data sets are published, one module per format."""

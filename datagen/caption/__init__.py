"""Captions of images, in the formats in which data sets are published."""

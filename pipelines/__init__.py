"""Whole runs: strings the commands of `datagen` and `trainer` together and reports on them."""

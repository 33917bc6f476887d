"""Conversion of released checkpoints to this project's format and back: names, sizes and tokenizers."""

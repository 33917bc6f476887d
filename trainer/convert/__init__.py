"""Checkpoints as others released them: their names, sizes and tokenizers, to this project's form and back."""

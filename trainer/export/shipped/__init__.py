"""The code that is copied into an exported folder."""

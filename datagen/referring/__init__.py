"""Objects that a phrase or a box refers to."""

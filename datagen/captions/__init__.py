"""Captions in the forms in which data sets are published: a module a form. `datagen.caption` has the table of them."""

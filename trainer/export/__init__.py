"""What an exported folder for plain transformers is made of; `trainer.export` writes it."""

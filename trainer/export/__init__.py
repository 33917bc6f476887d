"""The export of a trained model as a folder that plain transformers loads."""

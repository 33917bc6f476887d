"""Text conversations."""

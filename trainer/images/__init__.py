"""Images as views, pixels and token counts."""

"""The reading order of a page's text."""

"""Own labels: pages with a text or JSON file of the same name."""

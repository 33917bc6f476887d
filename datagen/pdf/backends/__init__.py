"""PDF libraries behind one interface."""

"""Scans: pages without a text layer of their own, labelled by OCR."""

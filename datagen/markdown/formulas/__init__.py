"""Formulas: LaTeX → Typst with the glyphs that the page must show, and the comparison with the glyphs that it shows."""

"""LaTeX and Markdown documents, typeset anew."""

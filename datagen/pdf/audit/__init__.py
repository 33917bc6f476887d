"""The comparison of a page's text layer with its ink."""

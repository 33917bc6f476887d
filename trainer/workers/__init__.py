"""Worker processes that may hang or die; they know no sample."""

"""Input files that several sources read: listings, JSON records, image ids, pickles."""

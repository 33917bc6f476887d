"""Sample inputs that the project makes itself: PDFs, images with boxes, chats. Needs no network and no system fonts.

Equal arguments give equal bytes, on every call and in every process. A smaller set is the beginning of a larger set:
item `i` does not depend on their number.
"""

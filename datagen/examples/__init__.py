"""Sample inputs that the project makes itself: PDFs, images with boxes, chats. Needs no network and no system fonts.

Equal arguments give equal bytes, on every call and in every process. A smaller set is the beginning of a larger set:
item `i` does not depend on their number.
"""

from datagen.examples.chats import write_chats
from datagen.examples.documents import write_documents
from datagen.examples.shapes import write_detection

__all__ = ["write_chats", "write_detection", "write_documents"]

import numpy as np

VALUES = 32


def fingerprint(text):
    return b""


def cluster(f):
    return np.arange(len(f))


def group_documents(c, d):
    return np.arange(d.max() + 1)

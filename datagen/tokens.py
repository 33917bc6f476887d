def estimate_tokens(text):
    return len(text) // 4

"""The Python face: audio in, words or labels out."""

# Here, because every --help shows them.
FORMATS = ("text", "jsonl", "srt", "vtt", "ctm")
WINDOW, OVERLAP = 20.0, 4.0  # seconds heard at a time, and heard twice
BATCH = 8  # windows that run together

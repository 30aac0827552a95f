"""The Python face: audio in, words or labels out."""

"""The library under the scripts of manifests/: other people's corpora as fairseq's manifests."""

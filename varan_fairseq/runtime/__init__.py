"""What any program needs: files, progress, processes, pickles, and what differs between fairseqs."""

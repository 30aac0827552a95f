"""What trained, as a small file that travels without a pickle."""

"""What a run has learned, in use: its policy and its reward."""

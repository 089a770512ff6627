"""What a node says of a model: its files, how it divides, how fast it was."""

"""What a node keeps of the servers that were started on it."""

"""The links between the nodes: from cables to addresses, what setup changes, and its undoing."""

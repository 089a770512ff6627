"""What inv tp.* does."""

"""What inv hosts.* does."""

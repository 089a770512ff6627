"""What inv dev.* does, told to people: a file per task."""

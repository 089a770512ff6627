"""What is to be run, where: the settings."""

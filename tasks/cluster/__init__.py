"""What the tasks are made of; it knows nothing of Invoke's command line."""

"""Invoke's side: what a command line is made into, and how its results are shown."""

"""Copies of a folder of this machine on the nodes."""

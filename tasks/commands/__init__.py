"""What tasks do, told to people: read, judge, act, tell."""

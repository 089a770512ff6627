"""How nodes are reached, and what is sent to them."""

"""The server's HTTP side: how it is asked, and what its answers hold."""

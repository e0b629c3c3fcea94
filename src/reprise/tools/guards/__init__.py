"""What stands between tools and the machine: files, the network, and what is too large."""

"""What stands between tools and what they could harm: the network, files, other processes."""

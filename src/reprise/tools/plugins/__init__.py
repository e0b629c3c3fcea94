"""Plugins: tools of others, from folders and installed packages, trusted by what is in them and held to what they declare."""

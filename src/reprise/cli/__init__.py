"""The command line. ``main`` holds the table of commands; each command's module is loaded when it is called."""

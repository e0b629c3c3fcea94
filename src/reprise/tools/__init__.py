"""What can be done: typed functions with a schema, stated effects and limits, called alike by agents, workflows and people."""

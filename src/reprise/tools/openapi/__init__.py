"""APIs as tools: what an OpenAPI or Swagger document describes becomes tools that call it."""

"""A first configuration: what a folder or a table is, and the YAML that assembles it."""

"""Other frameworks that drive the training: each is an extra, imported only by its own module here."""
